#include "scheduler/preemption.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/btree_set.h"
#include "scheduler/fair_share.h"
#include "scheduler/grant_planner.h"
#include "scheduler/job_record.h"
#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {
namespace {

constexpr size_t kWaitingMax = 64;
constexpr int kChoicesMax = 16;
constexpr int kLooksByJobMax = 64;
constexpr int kLooksMax = 512;

// Since its last checkpoint, or since it came.
absl::Duration LossOf(const JobRecord& running, absl::Time now) {
  const v1::JobStatus& status = running.job().status();
  const absl::Time granted = FromProto(status.attempts().rbegin()->grant_time());
  const absl::Time saved = FromProto(status.checkpoint().commit_time());
  return now - std::max(granted, saved);
}

class Chooser {
 public:
  Chooser(const State& state, const Fleet& fleet, const WorkerIndex& workers,
          const Options& options, absl::Time now)
      : state_(state), fleet_(fleet), workers_(workers), options_(options), now_(now) {
    for (const std::string& job : state.promised()) {
      const JobRecord& record = *state.FindJob(job);
      if (PromiseStands(record, state, fleet, options, now))
        taken_.insert(record.promised_worker());
    }
  }

  std::vector<Preempt> Run() {
    std::vector<Preempt> chosen;
    for (const QueueKey& key : Waiting()) {
      const JobRecord& waiting = *state_.FindJob(key.job);
      if (PromiseStands(waiting, state_, fleet_, options_, now_)) continue;
      if (std::optional<Preempt> preempt = ChooseFor(waiting)) {
        taken_.insert(preempt->worker);
        chosen.push_back(*std::move(preempt));
      }
      if (looks_ >= kLooksMax) break;
    }
    return chosen;
  }

 private:
  // What is given up on one worker; smaller is better.
  struct Price {
    int victim_class = 0;
    size_t victims = 0;
    absl::Duration loss;

    friend bool operator<(const Price& a, const Price& b) {
      return std::tie(a.victim_class, a.victims, a.loss) <
             std::tie(b.victim_class, b.victims, b.loss);
    }
  };

  const TenantShare& ShareOfTenantOf(const JobRecord& record) {
    const std::string tenant(TenantOf(record.job().name()));
    const auto [share, is_new] = shares_.try_emplace(tenant);
    if (is_new) share->second = ShareOf(tenant, state_, options_, now_);
    return share->second;
  }

  // The first of each tenant and shape that could take anything, by key.
  std::vector<QueueKey> Waiting() {
    std::vector<QueueKey> waiting;
    for (const auto& [tenant, queue] : state_.queue().tenants()) {
      for (const auto& [shape, keys] : queue) {
        const JobRecord& head = *state_.FindJob(keys.begin()->job);
        if (head.job().priority_class() > v1::LOW || ShareOfTenantOf(head).below_guaranteed()) {
          waiting.push_back(*keys.begin());
        }
      }
    }
    std::sort(waiting.begin(), waiting.end());
    if (waiting.size() > kWaitingMax) waiting.resize(kWaitingMax);
    return waiting;
  }

  bool MayTake(const JobRecord& waiting, const JobRecord& running) {
    const bool higher = waiting.job().priority_class() > running.job().priority_class();
    if (TenantOf(waiting.job().name()) == TenantOf(running.job().name())) {
      return higher &&
             MakeQueueKey(waiting.job(), options_) < MakeQueueKey(running.job(), options_);
    }
    const TenantShare& mine = ShareOfTenantOf(waiting);
    TenantShare theirs = ShareOfTenantOf(running);
    if (mine.below_guaranteed() && theirs.devices > theirs.guaranteed_devices) return true;
    // As they will be once it has left. With the attempt counted, a tenant that has just got its
    // turn would lose it again to the one that has just not got it.
    --theirs.attempts;
    return higher && GoesBefore(mine, theirs, options_.attempt_charge);
  }

  // Who would have to leave `worker` for `shape` to come; nothing if that does not help.
  std::optional<std::pair<Price, Preempt>> Clear(const JobRecord& waiting, const JobShape& shape,
                                                 bool any_class, const WorkerInfo& worker,
                                                 int* choices) {
    struct Victim {
      const JobRecord* record;
      absl::Duration loss;
    };
    std::vector<Victim> victims;
    for (const WorkerLoad::Piece& piece : state_.LoadOf(worker.name).pieces()) {
      if (piece.leaving || now_ - piece.granted < options_.preempt_after) continue;
      const JobRecord& running = *state_.FindJob(piece.job);
      if (MayTake(waiting, running)) {
        victims.push_back({&running, LossOf(running, now_) * GangSizeOf(running.job())});
      }
    }
    *choices += victims.empty() ? 0 : 1;
    std::sort(victims.begin(), victims.end(), [&](const Victim& a, const Victim& b) {
      const auto order = [&](const Victim& v) {
        return std::make_tuple(v.record->job().priority_class(), v.loss);
      };
      if (order(a) != order(b)) return order(a) < order(b);
      return MakeQueueKey(b.record->job(), options_) < MakeQueueKey(a.record->job(), options_);
    });
    WorkerLoad load = state_.LoadOf(worker.name);
    std::pair<Price, Preempt> cleared;
    cleared.second = {.worker = worker.name, .by = waiting.job().name()};
    for (const Victim& victim : victims) {
      load.Remove(victim.record->job().name());
      Price& price = cleared.first;
      price.victim_class = std::max<int>(price.victim_class, victim.record->job().priority_class());
      price.loss += victim.loss;
      ++price.victims;
      cleared.second.victims.push_back(victim.record->job().name());
      const Fit fit =
          CheckWorker(shape, worker, state_.WorkerMode(worker.name), load, any_class, options_);
      if (fit.verdict == Verdict::kFits) return cleared;
    }
    return std::nullopt;
  }

  std::optional<Preempt> ChooseFor(const JobRecord& waiting) {
    const JobShape shape = ShapeOf(waiting, options_);
    if (shape.gang_size > 1) return std::nullopt;  // It keeps workers instead.
    const bool any_class = MayChangeClass(shape, fleet_, options_, now_);
    const TenantShare& mine = ShareOfTenantOf(waiting);
    const std::string tenant(TenantOf(waiting.job().name()));
    std::optional<std::pair<Price, Preempt>> best;
    int choices = 0;
    const int looks_end = std::min(kLooksMax, looks_ + kLooksByJobMax);
    const int class_end =
        mine.below_guaranteed() ? v1::PriorityClass_MAX + 1 : waiting.job().priority_class();
    workers_.VisitByClass(shape, any_class, class_end, [&](const WorkerInfo& worker) {
      // A later one has no lower class.
      if (best.has_value() &&
          state_.LoadOf(worker.name).lowest_class() > best->first.victim_class) {
        return false;
      }
      if (looks_ >= looks_end || choices >= kChoicesMax) return false;
      ++looks_;
      if (taken_.contains(worker.name)) return true;
      if (mine.at_limit() && !state_.DevicesOf(tenant).contains(worker.name)) return true;
      auto cleared = Clear(waiting, shape, any_class, worker, &choices);
      if (cleared.has_value() && (!best.has_value() || cleared->first < best->first)) {
        best = std::move(cleared);
      }
      return true;
    });
    if (!best.has_value()) return std::nullopt;
    return std::move(best->second);
  }

  const State& state_;
  const Fleet& fleet_;
  const WorkerIndex& workers_;
  const Options& options_;
  const absl::Time now_;
  // Promised to others.
  absl::btree_set<std::string> taken_;
  std::map<std::string, TenantShare> shares_;
  int looks_ = 0;
};

}  // namespace

std::vector<Preempt> ChoosePreemptions(const State& state, const Fleet& fleet,
                                       const WorkerIndex& workers, const Options& options,
                                       absl::Time now) {
  if (!options.preemption || state.queue().empty()) return {};
  return Chooser(state, fleet, workers, options, now).Run();
}

}  // namespace deltaworks::scheduler
