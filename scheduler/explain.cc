#include "scheduler/explain.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/estimator.h"
#include "scheduler/fair_share.h"
#include "scheduler/forecast.h"
#include "scheduler/grant_planner.h"
#include "scheduler/job_record.h"
#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "scheduler/queue_order.h"
#include "scheduler/resource_name.h"
#include "scheduler/start_hints.h"

namespace deltaworks::scheduler {
namespace {

constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr size_t kPositionsExact = 1'000;
constexpr absl::Duration kWaitMax = absl::Hours(24 * 365 * 100);

std::string Mebibytes(int64_t bytes) {
  return absl::StrCat(static_cast<int64_t>(static_cast<double>(bytes) / kMebibyte), " MiB");
}

std::string Labels(const JobRecord& record) {
  std::vector<std::string> labels;
  for (const auto& [key, value] : record.job().placement().worker_labels()) {
    labels.push_back(absl::StrCat(key, "=", value));
  }
  std::sort(labels.begin(), labels.end());
  return absl::StrJoin(labels, ", ");
}

std::string ClassSentence(const JobRecord& record, const Explainer::Survey& survey,
                          const Fleet& fleet, const Options& options, absl::Time now) {
  const v1::JobStatus& status = record.job().status();
  const std::string wants =
      absl::StrCat("waits for a worker of its numerics class ", status.numerics_class(),
                   " (online: ", absl::StrJoin(survey.classes, ", "), "), because it began there");
  if (record.job().placement().resume_policy() == v1::Placement::EXACT) {
    return absl::StrCat(wants, " and resume_policy is EXACT");
  }
  const absl::Duration left =
      fleet.ClassLastSeen(status.numerics_class()) + options.numerics_class_patience - now;
  return absl::StrCat(wants, "; goes on elsewhere in ",
                      absl::FormatDuration(absl::Ceil(left, absl::Seconds(1))));
}

std::string Workers(int64_t count) {
  return absl::StrCat(count, count == 1 ? " worker" : " workers");
}

std::string EmptyWorkerSentence(const JobRecord& record, const Explainer::Survey& survey) {
  const std::string none = absl::StrCat("; ", Workers(survey.suitable), " would do, none is empty");
  if (record.run_alone()) {
    return absl::StrCat("runs alone after ", record.job().status().deaths_without_checkpoint(),
                        " deaths in a row", none);
  }
  return absl::StrCat("shares no worker", none);
}

}  // namespace

v1::Job Explainer::Show(const JobRecord& record) {
  v1::Job job = record.job();
  if (StateOf(record) == v1::QUEUED) *job.mutable_status()->mutable_waiting() = Explain(record);
  return job;
}

v1::Job Explainer::ShowOne(const JobRecord& record, const Sources* sources) {
  v1::Job job = Show(record);
  if (sources == nullptr || StateOf(record) != v1::QUEUED || record.has_waits_until()) return job;
  v1::Waiting& waiting = *job.mutable_status()->mutable_waiting();
  const Estimator estimator(state_, fleet_, sources->workers, sources->speeds, options_);
  for (std::string& hint : StartHints(record, state_, fleet_, estimator, options_, now_)) {
    waiting.add_hints(std::move(hint));
  }
  // Of gangs nothing is played.
  const Forecast::Answer forecast =
      GangSizeOf(record.job()) > 1
          ? Forecast::Answer{.played_until = now_}
          : Forecast(state_, fleet_, sources->workers, options_, now_).Of(record);
  if (forecast.earliest_start.has_value()) {
    *waiting.mutable_earliest_start_time() = ToProto(*forecast.earliest_start);
  }
  if (forecast.start.has_value()) {
    *waiting.mutable_likely_start_time() = ToProto(*forecast.start);
    *waiting.mutable_likely_start_time_max() = ToProto(*forecast.start);
    if (forecast.end.has_value()) *waiting.mutable_likely_end_time() = ToProto(*forecast.end);
  } else if (const int64_t workers = estimator.WorkersFor(ShapeOf(record, options_), now_);
             workers >= GangSizeOf(record.job())) {
    const absl::Duration wait = std::min(
        absl::Seconds(estimator.SecondsAhead(record) / static_cast<double>(estimator.BusyBefore(
                                                           ShapeOf(record, options_), workers))),
        kWaitMax);
    *waiting.mutable_likely_start_time() = ToProto(forecast.played_until);
    *waiting.mutable_likely_start_time_max() =
        ToProto(std::max(forecast.played_until, now_ + wait));
  }
  return job;
}

void Explainer::SetPosition(const JobRecord& record, v1::Waiting* waiting) {
  const JobQueue& queue = state_.queue();
  if (first_.empty()) {
    for (const QueueKey& key : queue.keys()) {
      if (first_.size() == kPositionsExact) break;
      first_.push_back(&key);
    }
  }
  const QueueKey own = MakeQueueKey(record.job(), options_);
  const auto at = std::lower_bound(first_.begin(), first_.end(), own,
                                   [](const QueueKey* a, const QueueKey& b) { return *a < b; });
  // The job itself need not be in the queue.
  if (at != first_.end() || first_.size() < kPositionsExact) {
    waiting->set_queue_position(at - first_.begin() + 1);
    waiting->set_queue_position_max(waiting->queue_position());
    return;
  }
  int64_t before = 0, through = 0;
  for (const auto& [shape, of_shape] : queue.shapes()) {
    before += of_shape.sums.Before(own.rank).jobs;
    through += of_shape.sums.Through(own.rank).jobs;
  }
  waiting->set_queue_position(std::max<int64_t>(before, kPositionsExact) + 1);
  waiting->set_queue_position_max(std::max(waiting->queue_position(), through));
}

const Explainer::Survey& Explainer::LookAt(const JobShape& shape) {
  const auto [found, is_new] = surveys_.try_emplace(shape);
  Survey& survey = found->second;
  if (!is_new) return survey;
  const bool any_class = MayChangeClass(shape, fleet_, options_, now_);
  for (const auto& [name, worker] : fleet_.workers()) {
    ++survey.seen;
    const v1::WorkerMode mode = state_.WorkerMode(name);
    const Fit fit = CheckWorker(shape, worker, mode, state_.LoadOf(name), any_class, options_);
    if (CheckOrder(fit.reason) > CheckOrder(survey.furthest)) survey.furthest = fit.reason;
    if (!worker.online) continue;
    if (!TakesJobs(worker, mode)) {
      ++survey.draining;
      continue;
    }
    ++survey.online;
    survey.suitable += fit.verdict == Verdict::kInfeasible ? 0 : 1;
    survey.memory_bytes_max = std::max(survey.memory_bytes_max, worker.environment.memory_bytes());
    survey.classes.insert(worker.environment.numerics_class());
  }
  return survey;
}

// There is room, and the last plan did not give it to the job.
void Explainer::ExplainRoom(const JobRecord& record, v1::Waiting* waiting) const {
  const TenantShare share =
      ShareOf(std::string(TenantOf(record.job().name())), state_, options_, now_);
  const int32_t gang_size = GangSizeOf(record.job());
  if (share.devices + gang_size > share.limit_devices) {
    waiting->set_reason(v1::QUOTA_REACHED);
    waiting->set_message(gang_size == 1
                             ? absl::StrCat("the tenant is on ", share.devices,
                                            share.devices == 1 ? " device" : " devices",
                                            ", as many as its quota allows")
                             : absl::StrCat("its gang needs ", gang_size,
                                            " devices; the tenant is on ", share.devices,
                                            ", and its quota allows ", share.limit_devices));
  } else {
    waiting->set_reason(v1::WORKERS_HELD);
    waiting->set_message("a worker has room, and it is kept for jobs ahead that need more of it");
  }
}

void Explainer::ExplainGang(const JobRecord& record, v1::Waiting* waiting) const {
  const JobShape shape = ShapeOf(record, options_);
  const bool any_class = MayChangeClass(shape, fleet_, options_, now_);
  // Of one kind: those that could be of the gang, and those of them that are empty.
  std::map<std::pair<std::string, int64_t>, std::pair<int64_t, int64_t>> kinds;
  std::pair<int64_t, int64_t> most;
  for (const auto& [name, worker] : fleet_.workers()) {
    if (!TakesJobs(worker, state_.WorkerMode(name)) ||
        CheckWorkerKind(shape, worker, any_class).verdict != Verdict::kFits) {
      continue;
    }
    auto& [suitable, empty] =
        kinds[{worker.environment.numerics_class(), worker.environment.memory_bytes()}];
    ++suitable;
    empty += state_.LoadOf(name).empty() ? 1 : 0;
    most = std::max(most, std::pair(suitable, empty));
  }
  const std::string gang = absl::StrCat("its gang needs ", shape.gang_size, " workers of one kind");
  if (most.first < shape.gang_size) {
    waiting->set_reason(v1::NO_WORKERS_FOR_GANG);
    waiting->set_message(absl::StrCat(gang, "; ", Workers(most.first), " online could be of it"));
  } else if (std::any_of(kinds.begin(), kinds.end(),
                         [&](const auto& kind) { return kind.second.second >= shape.gang_size; })) {
    ExplainRoom(record, waiting);
  } else {
    waiting->set_reason(v1::WAITING_FOR_GANG);
    waiting->set_message(absl::StrCat(gang, ", empty at the same time; of ", most.first, " ",
                                      most.second, most.second == 1 ? " is" : " are"));
  }
}

v1::Waiting Explainer::Explain(const JobRecord& record) {
  if (record.has_waits_until()) {
    const std::string until = absl::FormatTime(
        "%Y-%m-%dT%H:%M:%E3SZ", FromProto(record.waits_until()), absl::UTCTimeZone());
    v1::Waiting waiting;
    if (IsBackingOff(record)) {
      waiting.set_reason(v1::BACKING_OFF);
      waiting.set_message(
          absl::StrCat("its last attempt failed; it is tried again, at its place, at ", until));
    } else {
      waiting.set_reason(v1::BEFORE_START);
      waiting.set_message(absl::StrCat("takes its place in the queue at ", until));
    }
    return waiting;
  }
  const Survey& survey = LookAt(ShapeOf(record, options_));
  const std::string online = absl::StrCat("; ", Workers(survey.online), " online, none does");

  v1::Waiting waiting;
  SetPosition(record, &waiting);
  const int64_t position = waiting.queue_position();
  waiting.set_reason(survey.furthest);
  if (CheckOrder(survey.furthest) >= CheckOrder(v1::NO_WORKERS_FOR_GANG) &&
      GangSizeOf(record.job()) > 1) {
    ExplainGang(record, &waiting);
    return waiting;
  }
  switch (survey.furthest) {
    case v1::NO_WORKER_ONLINE:
      waiting.set_message(absl::StrCat("no worker is online that takes jobs (", survey.seen,
                                       " seen since the scheduler started, ", survey.draining,
                                       " draining, cordoned or quarantined)"));
      break;
    case v1::NO_WORKER_WITH_DEVICE_KIND:
      waiting.set_message(absl::StrCat("waits for a worker with a ",
                                       record.job().placement().device_kind(), " device", online));
      break;
    case v1::NO_WORKER_WITH_LABELS:
      waiting.set_message(
          absl::StrCat("waits for a worker with the labels ", Labels(record), online));
      break;
    case v1::NO_WORKER_WITH_MEMORY: {
      const int64_t needed = record.job().status().facts().memory_bytes_max();
      const int64_t asked = record.job().placement().memory_bytes_min();
      waiting.set_message(absl::StrCat(asked > needed ? "asks for a worker with " : "needs up to ",
                                       Mebibytes(std::max(asked, needed)),
                                       " of memory; the largest worker online has ",
                                       Mebibytes(survey.memory_bytes_max)));
      break;
    }
    case v1::NO_WORKER_WITH_NUMERICS_CLASS:
      waiting.set_message(ClassSentence(record, survey, fleet_, options_, now_));
      break;
    case v1::WAITING_FOR_EMPTY_WORKER:
    case v1::WORKERS_BUSY:
      if (PromiseStands(record, state_, fleet_, options_, now_)) {
        waiting.set_reason(v1::WAITING_FOR_PREEMPTION);
        waiting.set_message(
            absl::StrCat("jobs on ", record.promised_worker(), " were told to make room"));
      } else if (survey.furthest == v1::WAITING_FOR_EMPTY_WORKER) {
        waiting.set_message(EmptyWorkerSentence(record, survey));
      } else if (position > 1) {
        waiting.set_reason(v1::WAITING_FOR_TURN);
        waiting.set_message(absl::StrCat(position - 1, position == 2 ? " job is" : " jobs are",
                                         " ahead; ", Workers(survey.suitable),
                                         " would do, all busy"));
      } else {
        waiting.set_message(
            absl::StrCat("next in line; ", Workers(survey.suitable), " would do, all busy"));
      }
      break;
    default:
      ExplainRoom(record, &waiting);
      break;
  }
  return waiting;
}

}  // namespace deltaworks::scheduler
