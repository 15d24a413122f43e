#include "scheduler/decide_operator.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/job_draft.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::scheduler {
namespace {

constexpr double kWeightMax = 1'000'000;

absl::Status CheckNumbers(const v1::Quota& quota) {
  // Also false for NaN.
  if (!(quota.weight() > 0 && quota.weight() <= kWeightMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("quota.weight is ", quota.weight(), ", want > 0 and at most ", kWeightMax));
  }
  if (quota.guaranteed_devices() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("quota.guaranteed_devices is ", quota.guaranteed_devices(), ", want >= 0"));
  }
  if (quota.has_limit_devices() && quota.limit_devices() < quota.guaranteed_devices()) {
    return absl::InvalidArgumentError(absl::StrCat("quota.limit_devices is ", quota.limit_devices(),
                                                   ", want at least quota.guaranteed_devices, ",
                                                   quota.guaranteed_devices()));
  }
  return absl::OkStatus();
}

// What is guaranteed to all must be there.
absl::Status CheckSum(const std::string& tenant, const v1::Quota& quota,
                      const DecisionContext& context) {
  // As a double: each is at most 2^63, and so many of them may be.
  auto sum = static_cast<double>(quota.guaranteed_devices());
  for (const auto& [other, set] : context.state.quotas()) {
    if (other != tenant) sum += static_cast<double>(set.guaranteed_devices());
  }
  const auto devices = static_cast<double>(context.fleet.workers().size());
  if (sum <= devices) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the guaranteed devices of all tenants would be ", sum, ", want at most ",
                   devices, ", the workers seen within a day, or force"));
}

Event ModeEvent(const std::string& worker, v1::WorkerMode mode, const DecisionContext& context) {
  Event event;
  *event.mutable_time() = ToProto(context.now);
  event.mutable_worker_mode_set()->set_worker(worker);
  event.mutable_worker_mode_set()->set_mode(mode);
  return event;
}

}  // namespace

absl::StatusOr<Decision> DecideSetQuota(const v1::SetQuotaRequest& request,
                                        const DecisionContext& context) {
  v1::Quota quota = request.quota();
  DW_ASSIGN_OR_RETURN(const std::string tenant, ParseQuotaName("quota.name", quota.name()));
  if (quota.weight() == 0) quota.set_weight(1);
  DW_RETURN_IF_ERROR(CheckNumbers(quota));
  const auto stored = context.state.quotas().find(tenant);
  const std::string etag = stored == context.state.quotas().end() ? "" : stored->second.etag();
  const std::string asked_etag = std::exchange(*quota.mutable_etag(), etag);
  if (stored != context.state.quotas().end() &&
      DeterministicBytes(quota) == DeterministicBytes(stored->second)) {
    return Decision{};  // Also if it was this request that changed the etag.
  }
  if (!asked_etag.empty() && asked_etag != etag) {
    return absl::AbortedError(absl::StrCat("quota.etag is \"", asked_etag, "\", want \"", etag,
                                           "\": it was changed meanwhile"));
  }
  if (!request.force()) DW_RETURN_IF_ERROR(CheckSum(tenant, quota, context));
  Event event;
  *event.mutable_time() = ToProto(context.now);
  quota.set_etag(absl::StrCat(context.state.event_count() + 1));
  *event.mutable_quota_set()->mutable_quota() = std::move(quota);
  return Decision{.events = {std::move(event)}};
}

absl::StatusOr<Decision> DecideSetWorkerMode(const v1::SetWorkerModeRequest& request,
                                             const DecisionContext& context) {
  if (request.mode() != v1::WORKER_ACTIVE && request.mode() != v1::WORKER_CORDONED &&
      request.mode() != v1::WORKER_DRAINED) {
    return absl::InvalidArgumentError(
        absl::StrCat("mode is ", static_cast<int>(request.mode()),
                     ", want WORKER_ACTIVE, WORKER_CORDONED or WORKER_DRAINED"));
  }
  const std::string& worker = request.worker();
  if (context.state.WorkerIncarnation(worker) == 0) {
    return absl::NotFoundError(absl::StrCat(worker, " never reported"));
  }
  Decision decision;
  const bool is_active = request.mode() == v1::WORKER_ACTIVE;
  if (context.state.WorkerMode(worker) != request.mode() ||
      (is_active && context.state.troubles().all().contains(worker))) {
    decision.events.push_back(ModeEvent(worker, request.mode(), context));
    decision.events.back().mutable_worker_mode_set()->set_clears_trouble(is_active);
  }
  if (request.mode() != v1::WORKER_DRAINED) return decision;
  for (const std::string& job : context.state.JobsOn(worker)) {
    const JobRecord& record = *context.state.FindJob(job);
    if (StateOf(record) != v1::RUNNING ||
        record.current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED) {
      continue;
    }
    JobDraft draft(record, context.now);
    Event event = draft.NewEvent(v1::JobEvent::YIELD_ORDERED, v1::RUNNING, v1::DRAINED,
                                 absl::StrCat("an operator drains ", worker));
    event.mutable_attempt_ordered()->set_desired(v1::Assignment::YIELD);
    draft.Add(std::move(event));
    for (Event& drafted : draft.TakeEvents()) decision.events.push_back(std::move(drafted));
  }
  return decision;
}

Decision DecideQuarantine(const QuarantineWorker& command, const DecisionContext& context) {
  const auto trouble = context.state.troubles().all().find(command.worker);
  if (trouble == context.state.troubles().all().end() ||
      context.state.WorkerMode(command.worker) != v1::WORKER_ACTIVE) {
    return {};
  }
  absl::Duration length = context.options.quarantine_first;
  for (int i = 0; i < trouble->second.quarantines() && length < context.options.quarantine_max;
       ++i) {
    length *= 2;
  }
  Event event = ModeEvent(command.worker, v1::WORKER_QUARANTINED, context);
  *event.mutable_worker_mode_set()->mutable_until() =
      ToProto(context.now + std::min(length, context.options.quarantine_max));
  return {.events = {std::move(event)}};
}

Decision DecideReleaseWorker(const ReleaseWorker& command, const DecisionContext& context) {
  if (context.state.WorkerMode(command.worker) != v1::WORKER_QUARANTINED) return {};
  return {.events = {ModeEvent(command.worker, v1::WORKER_ACTIVE, context)}};
}

}  // namespace deltaworks::scheduler
