#include "scheduler/decide_request.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/job_draft.h"
#include "scheduler/job_record.h"
#include "scheduler/job_spec.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::scheduler {
namespace {

StoredRequest MakeStoredRequest(absl::string_view tenant, absl::string_view rpc,
                                const std::string& request_id, const std::string& job,
                                const google::protobuf::Message& request, absl::Time now) {
  StoredRequest stored;
  stored.set_tenant(std::string(tenant));
  stored.set_rpc(std::string(rpc));
  stored.set_request_id(request_id);
  stored.set_request(DeterministicBytes(request));
  stored.set_job(job);
  *stored.mutable_time() = ToProto(now);
  return stored;
}

// Takes the events of `draft` and stores the request with the first of them.
template <typename Request>
Decision Finish(absl::string_view rpc, const Request& request, JobDraft* draft) {
  Decision decision{.job = draft->record().job().name()};
  decision.events = draft->TakeEvents();
  if (request.request_id().empty()) return decision;
  if (decision.events.empty()) decision.events.push_back(draft->NewEvent());
  *decision.events.front().mutable_request() = MakeStoredRequest(
      TenantOf(decision.job), rpc, request.request_id(), decision.job, request, draft->now());
  return decision;
}

// The job of an earlier request with the same id; empty: there was none, carry it out. Errors as
// CheckRequestId and JobOfRepeated.
absl::StatusOr<std::string> DoneBefore(absl::string_view tenant, absl::string_view rpc,
                                       const std::string& request_id,
                                       const google::protobuf::Message& request,
                                       const DecisionContext& context) {
  if (request_id.empty()) return std::string();
  DW_RETURN_IF_ERROR(CheckRequestId(request_id));
  if (const StoredRequest* stored = context.state.requests().Find(tenant, rpc, request_id)) {
    return JobOfRepeated(*stored, request);
  }
  DW_ASSIGN_OR_RETURN(const std::optional<StoredRequest> archived,
                      context.archive.FindArchivedRequest(tenant, rpc, request_id));
  if (archived.has_value()) return JobOfRepeated(*archived, request);
  return std::string();
}

// A job wherever it is. NotFound also if it was deleted.
absl::StatusOr<std::shared_ptr<const JobRecord>> FindAnywhere(const std::string& name,
                                                              const DecisionContext& context) {
  if (const JobRecord* record = context.state.FindJob(name)) {
    return std::shared_ptr<const JobRecord>(std::shared_ptr<void>(), record);
  }
  DW_ASSIGN_OR_RETURN(const std::optional<ArchivedJob> archived,
                      context.archive.FindArchived(name));
  if (archived.has_value() && archived->record != nullptr) return archived->record;
  return absl::NotFoundError(
      absl::StrCat(name, archived.has_value() ? " was deleted" : " does not exist"));
}

// The job that `request` names, or, if the request was carried out before, the job that it was
// about.
struct Target {
  std::string tenant;
  std::string done_before;
  std::shared_ptr<const JobRecord> record;  // Null if it was done before.
};

template <typename Request>
absl::StatusOr<Target> FindTarget(absl::string_view rpc, const Request& request,
                                  const DecisionContext& context) {
  DW_ASSIGN_OR_RETURN(const ResourceName name, ParseResourceName("name", request.name(), "jobs"));
  Target target = {.tenant = std::string(name.tenant)};
  DW_ASSIGN_OR_RETURN(target.done_before,
                      DoneBefore(name.tenant, rpc, request.request_id(), request, context));
  if (!target.done_before.empty()) return target;
  DW_ASSIGN_OR_RETURN(target.record, FindAnywhere(request.name(), context));
  return target;
}

// The frame of an operation on an existing job. `act` adds events to the draft, or returns why not.
template <typename Request, typename Act>
absl::StatusOr<Decision> DecideOnJob(absl::string_view rpc, const Request& request,
                                     const DecisionContext& context, Act act) {
  DW_ASSIGN_OR_RETURN(const Target target, FindTarget(rpc, request, context));
  if (target.record == nullptr) return Decision{.job = target.done_before};
  JobDraft draft(*target.record, context.now);
  DW_RETURN_IF_ERROR(act(&draft));
  if (context.state.FindJob(request.name()) == nullptr) return Decision{.job = request.name()};
  return Finish(rpc, request, &draft);
}

// Tells the current attempt to leave; the job moves to `state`.
void Order(v1::Assignment::Desired desired, v1::JobState state, v1::JobReason reason,
           const std::string& message, JobDraft* draft) {
  Event event = draft->NewEvent(v1::JobEvent::STATE_CHANGED, state, reason, message);
  event.mutable_attempt_ordered()->set_desired(desired);
  draft->Add(std::move(event));
}

void MoveTo(v1::JobState state, v1::JobReason reason, const std::string& message, JobDraft* draft) {
  draft->Add(draft->NewEvent(v1::JobEvent::STATE_CHANGED, state, reason, message));
}

absl::Status WrongState(const JobDraft& draft, absl::string_view want) {
  return absl::FailedPreconditionError(absl::StrCat(
      draft.record().job().name(), " is ", v1::JobState_Name(draft.state()), ", want ", want));
}

absl::Status Cancel(JobDraft* draft) {
  const std::string asked = "cancelled on request";
  switch (draft->state()) {
    case v1::CANCELLING:
    case v1::CANCELLED:
      return absl::OkStatus();
    case v1::VALIDATING:
    case v1::QUEUED:
    case v1::PAUSED:
      MoveTo(v1::CANCELLED, v1::CANCEL_REQUESTED, asked, draft);
      return absl::OkStatus();
    case v1::RUNNING:
    case v1::PAUSING:
      Order(v1::Assignment::STOP, v1::CANCELLING, v1::CANCEL_REQUESTED, asked, draft);
      return absl::OkStatus();
    default:
      return WrongState(*draft, "a job that is not FINALIZING, SUCCEEDED or FAILED to cancel it");
  }
}

absl::Status Pause(JobDraft* draft) {
  const std::string asked = "paused on request";
  switch (draft->state()) {
    case v1::PAUSING:
    case v1::PAUSED:
      return absl::OkStatus();
    case v1::QUEUED:
      MoveTo(v1::PAUSED, v1::PAUSE_REQUESTED, asked, draft);
      return absl::OkStatus();
    case v1::RUNNING:
      Order(v1::Assignment::YIELD, v1::PAUSING, v1::PAUSE_REQUESTED, asked, draft);
      return absl::OkStatus();
    default:
      return WrongState(*draft, "QUEUED or RUNNING to pause it");
  }
}

absl::Status Resume(JobDraft* draft) {
  switch (draft->state()) {
    case v1::QUEUED:
    case v1::RUNNING:
      return absl::OkStatus();
    case v1::PAUSED:
      MoveTo(v1::QUEUED, v1::RESUME_REQUESTED, "resumed on request", draft);
      return absl::OkStatus();
    default:
      return WrongState(*draft, "PAUSED to resume it");
  }
}

absl::Status Update(const v1::UpdateJobRequest& request, const Estimator& estimator,
                    JobDraft* draft) {
  const v1::JobState state = draft->state();
  if (IsFinal(state) || state == v1::CANCELLING || state == v1::FINALIZING) {
    return WrongState(*draft, "a job without a result that is not being cancelled");
  }
  JobUpdated updated;
  updated.set_priority_class(request.priority_class() == v1::PRIORITY_CLASS_UNSPECIFIED
                                 ? draft->record().job().priority_class()
                                 : request.priority_class());
  *updated.mutable_timing() =
      request.has_timing() ? request.timing() : draft->record().job().timing();
  if (state == v1::QUEUED) {
    JobRecord changed = draft->record();
    changed.mutable_job()->set_priority_class(updated.priority_class());
    *changed.mutable_job()->mutable_timing() = updated.timing();
    if (auto bound = estimator.BoundOf(changed, draft->now())) {
      *updated.mutable_start_bound() = *std::move(bound);
    }
  }
  Event event = draft->NewEvent(
      v1::JobEvent::NOTE, state, draft->record().job().status().reason(),
      absl::StrCat("changed on request: class ", v1::PriorityClass_Name(updated.priority_class()),
                   request.has_timing() ? ", timing" : ""));
  *event.mutable_job_updated() = std::move(updated);
  draft->Add(std::move(event));
  return absl::OkStatus();
}

// What is compared when the request id comes again: all but what the server writes.
v1::CreateJobRequest Comparable(const v1::CreateJobRequest& request) {
  v1::CreateJobRequest comparable = request;
  if (comparable.has_job()) ClearOutputOnly(comparable.mutable_job());
  return comparable;
}

absl::StatusOr<std::string> ChooseJobId(const v1::CreateJobRequest& request,
                                        absl::string_view tenant, const DecisionContext& context) {
  if (request.job_id().empty()) return absl::StrFormat("job-%016x", context.random());
  const std::string name = absl::StrCat("tenants/", tenant, "/jobs/", request.job_id());
  DW_RETURN_IF_ERROR(ParseResourceName("job_id makes the name, which", name, "jobs").status());
  DW_ASSIGN_OR_RETURN(const std::optional<ArchivedJob> archived,
                      context.archive.FindArchived(name));
  if (context.state.FindJob(name) == nullptr && !archived.has_value()) return request.job_id();
  return absl::AlreadyExistsError(absl::StrCat("job_id is \"", request.job_id(), "\", and ", name,
                                               archived.has_value() && archived->record == nullptr
                                                   ? " was deleted: want another name"
                                                   : " exists already"));
}

absl::Status CheckRoom(const DecisionContext& context) {
  if (context.state.active_jobs() < context.options.active_jobs_max) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the queue is full: ", context.state.active_jobs(),
                   " jobs are not finished, want fewer than ", context.options.active_jobs_max,
                   "; nothing was stored"));
}

// Of a job that is made.
absl::StatusOr<JobDraft> DraftCreated(const v1::CreateJobRequest& request,
                                      const std::string& tenant, const DecisionContext& context) {
  DW_ASSIGN_OR_RETURN(const std::string job_id, ChooseJobId(request, tenant, context));
  DW_ASSIGN_OR_RETURN(v1::Job job, CompleteJob(request.job(), tenant, job_id));
  if (!job.parent_job().empty()) {
    const absl::Status found = FindAnywhere(job.parent_job(), context).status();
    if (absl::IsNotFound(found)) {
      return absl::InvalidArgumentError(absl::StrCat("job.parent_job: ", found.message()));
    }
    DW_RETURN_IF_ERROR(found);
  }
  DW_RETURN_IF_ERROR(CheckDeadline("job.timing", job.timing(), context.now));
  DW_RETURN_IF_ERROR(CheckRoom(context));

  JobDraft draft(JobRecord(), context.now);
  Event event = draft.NewEvent(v1::JobEvent::CREATED, v1::VALIDATING, v1::SUBMITTED,
                               "accepted; the store checks data and settings");
  event.set_job(job.name());
  *event.mutable_job_created()->mutable_job() = std::move(job);
  draft.Add(std::move(event));
  return draft;
}

Event Archived(const JobRecord& record, const DecisionContext& context) {
  Event event;
  *event.mutable_time() = ToProto(context.now);
  event.set_job(record.job().name());
  *event.mutable_job_archived()->mutable_record() = record;
  for (StoredRequest& request : context.state.requests().About(record.job().name())) {
    *event.mutable_job_archived()->add_requests() = std::move(request);
  }
  return event;
}

Event Deleted(const std::string& job, absl::Time now) {
  Event event;
  *event.mutable_time() = ToProto(now);
  event.set_job(job);
  event.mutable_job_deleted();
  return event;
}

}  // namespace

absl::Status CheckDeadline(absl::string_view field, const v1::Timing& timing, absl::Time now) {
  if (!timing.has_deadline() || FromProto(timing.deadline()) > now) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ".deadline is ",
                                                 absl::FormatTime(FromProto(timing.deadline())),
                                                 ", want later than now, ", absl::FormatTime(now)));
}

absl::StatusOr<Decision> DecideCreate(const v1::CreateJobRequest& request,
                                      const DecisionContext& context) {
  constexpr absl::string_view kRpc = "CreateJob";
  DW_ASSIGN_OR_RETURN(const std::string tenant, ParseTenant("parent", request.parent()));
  const v1::CreateJobRequest comparable = Comparable(request);
  DW_ASSIGN_OR_RETURN(const std::string done_before,
                      DoneBefore(tenant, kRpc, request.request_id(), comparable, context));
  if (!done_before.empty()) return Decision{.job = done_before};

  DW_ASSIGN_OR_RETURN(JobDraft draft, DraftCreated(request, tenant, context));
  return Finish(kRpc, comparable, &draft);
}

absl::StatusOr<Decision> DecideRerun(const v1::RerunJobRequest& request,
                                     const DecisionContext& context) {
  constexpr absl::string_view kRpc = "RerunJob";
  DW_ASSIGN_OR_RETURN(const Target target, FindTarget(kRpc, request, context));
  if (target.record == nullptr) return Decision{.job = target.done_before};
  const JobRecord& record = *target.record;
  if (!IsFinal(StateOf(record))) {
    return WrongState(JobDraft(record, context.now), "SUCCEEDED, FAILED or CANCELLED to rerun it");
  }
  v1::CreateJobRequest create;
  create.set_parent(absl::StrCat("tenants/", target.tenant));
  create.set_job_id(request.job_id());
  v1::Job& job = *create.mutable_job();
  job = record.job();
  job.set_parent_job(request.name());
  job.mutable_timing()->clear_start_after();
  job.mutable_timing()->clear_deadline();
  DW_ASSIGN_OR_RETURN(JobDraft draft, DraftCreated(create, target.tenant, context));
  return Finish(kRpc, request, &draft);
}

Decision DecideArchive(const ArchiveJob& command, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(command.job);
  if (record == nullptr || !IsFinal(StateOf(*record))) return {};
  return Decision{.events = {Archived(*record, context)}};
}

Decision DecideDrop(const DropJob& command, const DecisionContext& context) {
  const absl::StatusOr<std::optional<ArchivedJob>> archived =
      context.archive.FindArchived(command.job);
  if (!archived.ok() || !archived->has_value() || (*archived)->record == nullptr) return {};
  return Decision{.events = {Deleted(command.job, context.now)}};
}

absl::StatusOr<Decision> DecideDelete(const v1::DeleteJobRequest& request,
                                      const DecisionContext& context) {
  constexpr absl::string_view kRpc = "DeleteJob";
  DW_ASSIGN_OR_RETURN(const Target target, FindTarget(kRpc, request, context));
  if (target.record == nullptr) return Decision{.job = target.done_before};
  const JobRecord& record = *target.record;
  if (!IsFinal(StateOf(record))) {
    return WrongState(JobDraft(record, context.now),
                      "SUCCEEDED, FAILED or CANCELLED to delete it (cancel it first)");
  }
  Decision decision{.job = request.name()};
  if (context.state.FindJob(request.name()) != nullptr) {
    decision.events.push_back(Archived(record, context));
  }
  Event deleted = Deleted(request.name(), context.now);
  if (!request.request_id().empty()) {
    *deleted.mutable_request() = MakeStoredRequest(target.tenant, kRpc, request.request_id(),
                                                   request.name(), request, context.now);
  }
  decision.events.push_back(std::move(deleted));
  return decision;
}

absl::StatusOr<Decision> DecideCancel(const v1::CancelJobRequest& request,
                                      const DecisionContext& context) {
  return DecideOnJob("CancelJob", request, context, Cancel);
}

absl::StatusOr<Decision> DecidePause(const v1::PauseJobRequest& request,
                                     const DecisionContext& context) {
  return DecideOnJob("PauseJob", request, context, Pause);
}

absl::StatusOr<Decision> DecideUpdate(const v1::UpdateJobRequest& request,
                                      const DecisionContext& context) {
  if (request.priority_class() == v1::PRIORITY_CLASS_UNSPECIFIED && !request.has_timing()) {
    return absl::InvalidArgumentError("the request changes nothing, want priority_class or timing");
  }
  if (!v1::PriorityClass_IsValid(request.priority_class())) {
    return absl::InvalidArgumentError(absl::StrCat("priority_class is ",
                                                   static_cast<int>(request.priority_class()),
                                                   ", want LOW, NORMAL or HIGH"));
  }
  DW_RETURN_IF_ERROR(CheckTiming("timing", request.timing()));
  return DecideOnJob("UpdateJob", request, context, [&](JobDraft* draft) -> absl::Status {
    DW_RETURN_IF_ERROR(CheckDeadline("timing", request.timing(), context.now));
    return Update(request, context.estimator, draft);
  });
}

absl::StatusOr<Decision> DecideResume(const v1::ResumeJobRequest& request,
                                      const DecisionContext& context) {
  return DecideOnJob("ResumeJob", request, context, Resume);
}

}  // namespace deltaworks::scheduler
