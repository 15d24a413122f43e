#include "scheduler/forecast.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "scheduler/grant_planner.h"
#include "scheduler/job_record.h"
#include "scheduler/pass_speed.h"
#include "scheduler/placement.h"
#include "scheduler/queue_order.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {
namespace {

// Shorter ones are not worth telling apart.
constexpr double kPassSecondsMin = 1e-6;
constexpr double kWaitSecondsMax = 100.0 * 365 * 24 * 3600;

}  // namespace

const Forecast::Turn::Next* Forecast::Turn::Head() const {
  const Next* head = nullptr;
  for (const Next& each : next) {
    if (head == nullptr || *each.key < *head->key) head = &each;
  }
  return head;
}

Forecast::Forecast(const State& state, const Fleet& fleet, const WorkerIndex& workers,
                   const Options& options, absl::Time now)
    : state_(state), fleet_(fleet), options_(options), now_(now) {
  for (const auto& [tenant, queue] : state.queue().tenants()) {
    Turn& turn = turns_[tenant];
    turn.tenant = tenant;
    turn.share = ShareOf(tenant, state, options, now);
    for (const auto& [shape, keys] : queue) {
      if (shape->shape.gang_size == 1) turn.next.push_back({shape, &keys, keys.begin()});
    }
  }
  workers.VisitSoonest(kDevicesMax, [&](const WorkerInfo& worker) { AddDevice(worker); });
}

void Forecast::AddDevice(const WorkerInfo& worker) {
  if (!TakesJobs(worker, state_.WorkerMode(worker.name))) return;
  Device& device = devices_.emplace_back();
  device.worker = &worker;
  device.as_of = now_;
  for (const WorkerLoad::Piece& piece : state_.LoadOf(worker.name).pieces()) {
    device.load.Add(piece);
    AddMember(*state_.FindJob(piece.job), piece.leaving, &device);
    const auto turn = turns_.find(std::string(TenantOf(piece.job)));
    if (turn != turns_.end()) ++turn->second.attempts_on[&worker];
  }
}

void Forecast::AddMember(const JobRecord& record, bool leaving, Device* device) {
  const Work work = RemainingWork(record);
  if (device->members.empty()) {
    const PassSpeed speed = SpeedOf(ShapeOf(record, options_), work, *device->worker);
    device->fixed_seconds = speed.fixed_seconds;
    device->seconds_per_token = speed.seconds_per_token;
  }
  const auto passes = static_cast<double>(work.passes);
  device->members.push_back(
      {.job = record.job().name(),
       .passes_left = leaving ? 0 : passes,
       .tokens_by_pass =
           passes > 0 ? static_cast<double>(work.tokens) / passes / GangSizeOf(record.job()) : 0});
}

double Forecast::PassSeconds(const Device& device) {
  double tokens = 0;
  for (const Member& member : device.members) tokens += member.tokens_by_pass;
  return std::max(device.fixed_seconds + tokens * device.seconds_per_token, kPassSecondsMin);
}

void Forecast::Schedule(size_t index) {
  Device& device = devices_[index];
  ends_.erase({device.next_end, index});
  empties_.erase({device.empty_at, index});
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const Member& member : device.members) {
    least = std::min(least, member.passes_left);
    most = std::max(most, member.passes_left);
  }
  const double seconds = PassSeconds(device);
  device.next_end = device.as_of + absl::Seconds(std::min(least * seconds, kWaitSecondsMax));
  device.empty_at = device.as_of + absl::Seconds(std::min(most * seconds, kWaitSecondsMax));
  empties_.emplace(device.empty_at, index);
  if (!device.members.empty()) ends_.emplace(device.next_end, index);
}

void Forecast::EndMember(size_t index, absl::Time time) {
  Device& device = devices_[index];
  const auto first = std::min_element(
      device.members.begin(), device.members.end(),
      [](const Member& a, const Member& b) { return a.passes_left < b.passes_left; });
  const double passes = first->passes_left;
  for (Member& member : device.members) member.passes_left -= passes;
  device.as_of = time;
  if (first->job == asked_->job().name()) answer_.end = time;
  device.load.Remove(first->job);
  if (const auto turn = turns_.find(std::string(TenantOf(first->job))); turn != turns_.end()) {
    TenantShare& share = turn->second.share;
    --share.attempts;
    const auto on = turn->second.attempts_on.find(device.worker);
    if (--on->second == 0) {
      --share.devices;
      turn->second.attempts_on.erase(on);
    }
  }
  device.members.erase(first);
}

bool Forecast::Takes(const JobShape& shape, const Device& device) {
  ++checks_;
  if (device.load.empty()) return true;
  if (shape.alone() && !device.load.cohort().empty()) return false;
  return device.load.Admits(shape, device.worker->environment.memory_bytes(),
                            OverheadTokens(shape, *device.worker), options_);
}

bool Forecast::MayBeOn(const Turn& turn, const WorkerInfo* worker) const {
  return !turn.share.at_limit() || turn.attempts_on.contains(worker);
}

std::tuple<absl::Time, bool, double, QueueKey> Forecast::OrderOf(const Turn& turn) const {
  const QueueKey& head = *turn.Head()->key;
  const bool overdue = head.rank + options_.bonus_high + options_.max_overtake <= now_;
  return {overdue ? head.rank : absl::InfiniteFuture(), !turn.share.below_guaranteed(),
          Standing(turn.share, options_.attempt_charge), head};
}

void Forecast::Start(size_t index, Turn* turn, size_t next) {
  Device& device = devices_[index];
  Turn::Next& from = turn->next[next];
  const std::string job = from.key->job;
  const bool is_asked = job == asked_->job().name();
  const JobRecord& record = is_asked ? *asked_ : *state_.FindJob(job);
  AddMember(record, /*leaving=*/false, &device);
  device.load.Add({.job = job,
                   .shape = from.queue->shape,
                   .priority_class = record.job().priority_class(),
                   .granted = now_});
  if (is_asked) answer_.start = now_;
  ++turn->share.attempts;
  if (++turn->attempts_on[device.worker] == 1) ++turn->share.devices;
  if (++from.key == from.keys->end()) {
    turn->next.erase(turn->next.begin() + static_cast<std::ptrdiff_t>(next));
  }
  ++starts_;
}

bool Forecast::MayChange(const ShapeQueue& queue) {
  const auto [any_class, is_new] = any_class_.try_emplace(&queue);
  if (is_new) any_class->second = MayChangeClass(queue.shape, fleet_, options_, now_);
  return any_class->second;
}

void Forecast::Hold(const Turn::Next& next, std::set<size_t>* held) {
  for (const auto& [time, index] : empties_) {
    ++checks_;
    if (held->contains(index)) continue;
    const Fit fit =
        CheckWorkerKind(next.queue->shape, *devices_[index].worker, MayChange(*next.queue));
    if (fit.verdict != Verdict::kFits) continue;
    held->insert(index);
    return;
  }
}

bool Forecast::FillOne(size_t index) {
  Device& device = devices_[index];
  std::vector<std::pair<std::tuple<absl::Time, bool, double, QueueKey>, Turn*>> order;
  for (auto& [tenant, turn] : turns_) {
    if (!turn.next.empty()) order.emplace_back(OrderOf(turn), &turn);
  }
  std::sort(order.begin(), order.end());
  std::set<size_t> held;
  for (const auto& [place, turn] : order) {
    std::vector<size_t> heads(turn->next.size());
    for (size_t i = 0; i < heads.size(); ++i) heads[i] = i;
    std::sort(heads.begin(), heads.end(),
              [&](size_t a, size_t b) { return *turn->next[a].key < *turn->next[b].key; });
    for (const size_t head : heads) {
      const Turn::Next& next = turn->next[head];
      if (++checks_ > kChecksMax) return false;
      if (!MayBeOn(*turn, device.worker)) break;
      const Fit fit = CheckWorkerKind(next.queue->shape, *device.worker, MayChange(*next.queue));
      if (fit.verdict == Verdict::kFits && Takes(next.queue->shape, device)) {
        Start(index, turn, head);
        return true;
      }
      if (held.size() < GrantPlanner::kHeldMax) Hold(next, &held);
      if (held.contains(index)) return false;
    }
  }
  return false;
}

void Forecast::Fill(size_t index) {
  while (starts_ < kStartsMax && checks_ < kChecksMax && FillOne(index)) {
  }
  Schedule(index);
}

Forecast::Answer Forecast::Of(const JobRecord& record) {
  asked_ = &record;
  const JobShape shape = ShapeOf(record, options_);
  if (state_.FindJob(record.job().name()) == nullptr) {
    asked_queue_.emplace(ShapeQueue{shape, {MakeQueueKey(record.job(), options_)}, {}});
    const std::string tenant(TenantOf(record.job().name()));
    const auto [turn, is_new] = turns_.try_emplace(tenant);
    if (is_new) {
      turn->second.tenant = tenant;
      turn->second.share = ShareOf(tenant, state_, options_, now_);
      for (const Device& device : devices_) {
        for (const Member& member : device.members) {
          if (TenantOf(member.job) == tenant) ++turn->second.attempts_on[device.worker];
        }
      }
    }
    turn->second.next.push_back({&*asked_queue_, &asked_queue_->keys, asked_queue_->keys.begin()});
  }
  const bool any_class = MayChangeClass(shape, fleet_, options_, now_);
  const auto look = [&](size_t index) {
    if (answer_.earliest_start.has_value() ||
        CheckWorkerKind(shape, *devices_[index].worker, any_class).verdict != Verdict::kFits) {
      return;
    }
    if (Takes(shape, devices_[index])) answer_.earliest_start = now_;
  };
  for (size_t i = 0; i < devices_.size(); ++i) {
    Schedule(i);
    look(i);
  }
  for (size_t i = 0; i < devices_.size(); ++i) Fill(i);
  while (!answer_.end.has_value() && !ends_.empty() && starts_ < kStartsMax &&
         checks_ < kChecksMax) {
    const auto [time, index] = *ends_.begin();
    now_ = std::max(now_, time);
    EndMember(index, now_);
    look(index);
    Fill(index);
  }
  answer_.played_until = now_;
  return answer_;
}

}  // namespace deltaworks::scheduler
