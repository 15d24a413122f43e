#include "scheduler/decide_platform.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/attempt_end.h"
#include "scheduler/job_draft.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "trainer/base/utf8_prefix.h"

namespace deltaworks::scheduler {
namespace {

constexpr int kWarningsMax = 100;
constexpr size_t kGangTokenBytes = 32;
constexpr absl::string_view kMissingBlobs = "missing blobs: ";

Decision Done(JobDraft* draft) {
  return {.events = draft->TakeEvents(), .job = draft->record().job().name()};
}

void Fail(v1::Failure failure, const std::string& what, JobDraft* draft) {
  failure.set_message(std::string(Utf8Prefix(failure.message(), kFailureMessageBytesMax)));
  if (failure.fault() == v1::Failure::FAULT_UNSPECIFIED) failure.set_fault(v1::Failure::PLATFORM);
  Event event = draft->NewEvent(v1::JobEvent::STATE_CHANGED, v1::FAILED, v1::FAILURE,
                                absl::StrCat(what, failure.message()));
  event.mutable_shown()->set_level(v1::JobEvent::ERROR);
  *event.mutable_job_failed()->mutable_failure() = std::move(failure);
  draft->Add(std::move(event));
}

void Note(v1::JobEvent::Level level, v1::JobEvent::Type type, const std::string& message,
          JobDraft* draft) {
  Event event =
      draft->NewEvent(type, draft->state(), draft->record().job().status().reason(), message);
  event.mutable_shown()->set_level(level);
  draft->Add(std::move(event));
}

// Workers that could be of its gang, of the kind that has most of them; and in the largest gang
// that one of them can be part of.
struct GangRoom {
  int64_t workers = 0;
  int32_t size_max = 0;
};

GangRoom RoomForGang(const JobShape& shape, const Fleet& fleet) {
  GangRoom room;
  std::map<std::pair<std::string, int64_t>, int64_t> kinds;
  for (const auto& [name, worker] : fleet.workers()) {
    const Fit fit = CheckWorkerKind(shape, worker, /*any_class=*/true);
    if (fit.verdict != Verdict::kFits && fit.reason != v1::NO_WORKERS_FOR_GANG) continue;
    room.size_max = std::max(room.size_max, worker.environment.gang_size_max());
    if (fit.verdict != Verdict::kFits) continue;
    const int64_t count =
        ++kinds[{worker.environment.numerics_class(), worker.environment.memory_bytes()}];
    room.workers = std::max(room.workers, count);
  }
  return room;
}

std::string WhyNoGang(const JobShape& shape, const Fleet& fleet) {
  if (shape.gang_size == 1) return "";
  const GangRoom room = RoomForGang(shape, fleet);
  if (room.workers >= shape.gang_size) return "";
  if (room.size_max < shape.gang_size) {
    return absl::StrCat("the job needs a gang of ", shape.gang_size, " workers, want at most ",
                        std::max(1, room.size_max),
                        ", what the workers here can be part of (placement.gang_size)");
  }
  return absl::StrCat("the job needs a gang of ", shape.gang_size,
                      " workers of one kind, want at most ", room.workers,
                      ", as many as there are (placement.gang_size)");
}

// Empty, or why no worker that is known could ever hold the job. Asked once, when the job is
// accepted, and only when all workers had the time to report.
std::string WhyInfeasible(const JobRecord& record, const DecisionContext& context) {
  const Options& options = context.options;
  if (context.now < context.fleet.started_at() + options.lease_duration + options.start_grace) {
    return "";
  }
  const JobShape shape = ShapeOf(record, options);
  int64_t memory_bytes_max = 0;
  if (shape.labels.empty()) {
    memory_bytes_max = context.fleet.MemoryMax(shape.device_kind);
    if (shape.memory_bytes <= memory_bytes_max) return WhyNoGang(shape, context.fleet);
  } else {
    for (const auto& [name, worker] : context.fleet.workers()) {
      const Fit fit = CheckWorkerKind(shape, worker, /*any_class=*/true);
      if (fit.verdict == Verdict::kFits || fit.reason == v1::NO_WORKERS_FOR_GANG) {
        return WhyNoGang(shape, context.fleet);
      }
      if (fit.reason == v1::NO_WORKER_WITH_MEMORY) {
        memory_bytes_max = std::max(memory_bytes_max, worker.environment.memory_bytes());
      }
    }
  }
  if (memory_bytes_max == 0) return "";  // Nobody of that kind is known yet; one may come.
  const v1::TrainFacts& facts = record.job().status().facts();
  const v1::MemoryNeed& need = facts.memory();
  const bool is_asked = facts.memory_bytes_max() <= memory_bytes_max;
  const int64_t rows = is_asked ? 0 : RowsThatFit(PartsOf(need), memory_bytes_max);
  return absl::StrCat(is_asked ? "placement.memory_bytes_min asks for " : "the job needs up to ",
                      is_asked ? shape.memory_bytes : facts.memory_bytes_max(),
                      " bytes of memory on a worker, want at most ", memory_bytes_max,
                      ", what the largest suitable worker has",
                      rows > 0 && rows < need.rows()
                          ? absl::StrCat("; micro_batch_tokens of at most ", rows, " would fit")
                          : "");
}

std::string BoundSentence(const v1::StartBound& bound) {
  return absl::StrCat("starts by ",
                      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", FromProto(bound.latest_start_time()),
                                       absl::UTCTimeZone()),
                      " at the latest, after ",
                      absl::FormatDuration(absl::Seconds(std::ceil(bound.work_ahead_seconds()))),
                      " of device time ahead on ", bound.workers(),
                      bound.workers() == 1 ? " worker" : " workers");
}

// Names of missing blobs in the registry's FAILED_PRECONDITION; empty if it says something else.
std::vector<std::string> MissingBlobs(const absl::Status& status) {
  absl::string_view message = status.message();
  if (!absl::IsFailedPrecondition(status) || !absl::ConsumePrefix(&message, kMissingBlobs)) {
    return {};
  }
  return absl::StrSplit(message, ", ", absl::SkipEmpty());
}

v1::Failure Refusal(const std::string& message) {
  v1::Failure failure;
  failure.set_code("VERSION_REFUSED");
  failure.set_message(message);
  failure.set_fault(v1::Failure::PLATFORM);
  return failure;
}

void TakeVersion(const v1::AdapterVersion& version, JobDraft* draft) {
  const std::string& accepted = draft->record().job().status().result().manifest_digest();
  if (version.manifest_digest() != accepted) {
    const std::string conflict = absl::StrCat("the registry answered with manifest ",
                                              version.manifest_digest(), ", want ", accepted);
    Note(v1::JobEvent::ALERT, v1::JobEvent::VERSION_CONFLICT, conflict, draft);
    Fail(Refusal(conflict), "", draft);
    return;
  }
  if (version.state() == v1::AdapterVersion::REJECTED) {
    v1::Failure failure = version.failure();
    if (failure.code().empty()) failure = Refusal("the registry refused the version");
    Fail(failure, "the registry refused the adapter: ", draft);
    return;
  }
  if (version.state() != v1::AdapterVersion::READY || version.name().empty()) return;
  Event event = draft->NewEvent(v1::JobEvent::STATE_CHANGED, v1::SUCCEEDED, v1::VERSION_CREATED,
                                absl::StrCat("registered as ", version.name()));
  event.mutable_version_created()->set_version(version.name());
  draft->Add(std::move(event));
}

void TakeRefusal(const absl::Status& status, JobDraft* draft) {
  const std::vector<std::string> missing = MissingBlobs(status);
  if (!missing.empty()) {
    if (!draft->record().missing_blobs().empty()) return;
    Event event =
        draft->NewEvent(v1::JobEvent::BLOBS_MISSING, v1::FINALIZING, v1::RESULT_ACCEPTED,
                        absl::StrCat("the store lost ", missing.size(), " blobs of the result; ",
                                     ResultWorker(draft->record()), " is asked for them"));
    event.mutable_shown()->set_level(v1::JobEvent::WARNING);
    for (const std::string& digest : missing) {
      event.mutable_version_blobs_missing()->add_digests(digest);
    }
    draft->Add(std::move(event));
    return;
  }
  if (absl::IsAlreadyExists(status)) {
    Note(v1::JobEvent::ALERT, v1::JobEvent::VERSION_CONFLICT, std::string(status.message()), draft);
  }
  if (absl::IsAlreadyExists(status) || absl::IsInvalidArgument(status)) {
    Fail(Refusal(std::string(status.message())), "the registry refused the adapter: ", draft);
  }
}

// Fills in what can be said before the job began.
void Estimate(const JobRecord& record, const DecisionContext& context, JobValidated* validated,
              v1::JobEvent* shown) {
  JobRecord valid = record;
  valid.mutable_job()->mutable_status()->mutable_progress()->set_total_steps(
      validated->facts().total_steps());
  *valid.mutable_job()->mutable_status()->mutable_facts() = validated->facts();
  *valid.mutable_job()->mutable_train() = validated->spec();
  if (auto estimate = context.estimator.EstimateOf(valid)) {
    *validated->mutable_estimate() = *std::move(estimate);
  }
  if (auto bound = context.estimator.BoundOf(valid, context.now)) {
    shown->set_message(absl::StrCat(shown->message(), "; ", BoundSentence(*bound)));
    *validated->mutable_start_bound() = *std::move(bound);
  }
}

}  // namespace

Decision DecideStart(const DecisionContext& context) {
  Event event;
  *event.mutable_time() = ToProto(context.now);
  event.mutable_scheduler_started()->set_term(context.state.term() + 1);
  return {.events = {std::move(event)}};
}

Decision DecideValidation(const ValidationAnswer& answer, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(answer.job);
  if (record == nullptr || StateOf(*record) != v1::VALIDATING) return {};
  JobDraft draft(*record, context.now);
  if (answer.response.has_failure()) {
    Fail(answer.response.failure(), "validation: ", &draft);
    return Done(&draft);
  }
  const int warnings = std::min(kWarningsMax, answer.response.warnings_size());
  for (int i = 0; i < warnings; ++i) {
    Note(v1::JobEvent::WARNING, v1::JobEvent::NOTE, answer.response.warnings(i), &draft);
  }
  Event event =
      draft.NewEvent(v1::JobEvent::STATE_CHANGED, v1::QUEUED, v1::VALIDATED,
                     absl::StrCat("valid: ", answer.response.facts().total_steps(), " steps over ",
                                  answer.response.facts().train_examples(), " examples"));
  JobValidated& validated = *event.mutable_job_validated();
  *validated.mutable_facts() = answer.response.facts();
  *validated.mutable_spec() =
      answer.response.has_spec() ? answer.response.spec() : record->job().train();
  Estimate(draft.record(), context, &validated, event.mutable_shown());
  draft.Add(std::move(event));

  const std::string infeasible = WhyInfeasible(draft.record(), context);
  if (!infeasible.empty()) {
    v1::Failure failure;
    failure.set_code("INFEASIBLE");
    failure.set_message(infeasible);
    failure.set_fault(v1::Failure::USER);
    Fail(failure, "", &draft);
  }
  return Done(&draft);
}

Decision DecideVersion(const VersionAnswer& answer, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(answer.job);
  if (record == nullptr || StateOf(*record) != v1::FINALIZING) return {};
  JobDraft draft(*record, context.now);
  if (answer.version.ok()) {
    TakeVersion(*answer.version, &draft);
  } else {
    TakeRefusal(answer.version.status(), &draft);
  }
  return Done(&draft);
}

Decision DecideEndLease(const EndLease& command, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(command.job);
  if (record == nullptr || !IsCurrent(*record, command.lease_epoch, command.attempt_id) ||
      !IsHolder(record->current(), command.worker)) {
    return {};
  }
  JobDraft draft(*record, context.now);
  EndOn(command.worker, {.end = v1::Attempt::LEASE_ENDED}, /*done=*/false, context.options, &draft);
  return Done(&draft);
}

// Whoever has it is let into the gang, so it is not derived from ids that people see.
std::string NewGangToken(RandomBits random) {
  std::string token;
  while (token.size() < kGangTokenBytes) {
    const uint64_t bits = random();
    token.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  }
  return token;
}

Decision DecideGrant(const GrantAttempt& command, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(command.job);
  if (record == nullptr || StateOf(*record) != v1::QUEUED) return {};
  JobDraft draft(*record, context.now);
  const v1::JobStatus& status = record->job().status();
  const int64_t lease_epoch = status.lease_epoch() + 1;
  const int64_t start_step = CheckpointStep(*record);
  const bool class_changed =
      !status.numerics_class().empty() && status.numerics_class() != command.numerics_class;

  std::string message = absl::StrCat(
      "attempt ", lease_epoch, " on ", command.worker,
      command.others.empty() ? ""
                             : absl::StrCat(" and ", command.others.size(), " more of its gang"),
      " from ", start_step == 0 ? "the beginning" : absl::StrCat("step ", start_step));
  if (class_changed) {
    absl::StrAppend(&message, ", in numerics class ", command.numerics_class, " after ",
                    status.numerics_class(), ": no longer exact");
  }
  Event event = draft.NewEvent(v1::JobEvent::STATE_CHANGED, v1::RUNNING, v1::GRANTED, message);
  event.mutable_shown()->set_lease_epoch(lease_epoch);
  event.mutable_shown()->set_step(start_step);
  AttemptGranted& granted = *event.mutable_attempt_granted();
  // A class that changes before the first checkpoint changes nothing that is kept.
  granted.set_class_changed(class_changed && start_step > 0);
  v1::Attempt& attempt = *granted.mutable_attempt();
  attempt.set_lease_epoch(lease_epoch);
  const uint64_t high = context.random();
  attempt.set_attempt_id(absl::StrFormat("%016x%016x", high, context.random()));
  attempt.set_worker(command.worker);
  attempt.set_worker_incarnation(command.worker_incarnation);
  attempt.set_numerics_class(command.numerics_class);
  *attempt.mutable_grant_time() = ToProto(context.now);
  attempt.set_start_step(start_step);
  attempt.set_alone(command.alone);
  const auto add_member = [&](const std::string& worker, int64_t incarnation) {
    attempt.add_gang(worker);
    GangMember& member = *granted.add_members();
    member.set_worker(worker);
    member.set_worker_incarnation(incarnation);
    if (const WorkerInfo* info = context.fleet.Find(worker)) {
      member.set_address(info->environment.gang_address());
    }
  };
  if (!command.others.empty()) {
    add_member(command.worker, command.worker_incarnation);
    granted.set_gang_token(NewGangToken(context.random));
  }
  for (const auto& [worker, incarnation] : command.others) add_member(worker, incarnation);
  draft.Add(std::move(event));
  return Done(&draft);
}

Decision DecideRenewStartBound(const RenewStartBound& command, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(command.job);
  if (record == nullptr || StateOf(*record) != v1::QUEUED) return {};
  std::optional<v1::StartBound> bound = context.estimator.BoundOf(*record, context.now);
  const v1::JobStatus& status = record->job().status();
  // What was told may still be true: others were done meanwhile, or took less than estimated.
  if (!bound.has_value() ||
      (status.has_start_bound() && FromProto(bound->latest_start_time()) <=
                                       FromProto(status.start_bound().latest_start_time()))) {
    return {};
  }
  JobDraft draft(*record, context.now);
  Event event = draft.NewEvent(
      v1::JobEvent::NOTE, v1::QUEUED, status.reason(),
      absl::StrCat(status.has_start_bound()
                       ? absl::StrCat("fewer workers could hold it than the ",
                                      status.start_bound().workers(), " there were: ")
                       : "",
                   BoundSentence(*bound)));
  *event.mutable_start_bound_set()->mutable_start_bound() = *std::move(bound);
  draft.Add(std::move(event));
  return Done(&draft);
}

Decision DecidePreempt(const Preempt& command, const DecisionContext& context) {
  const JobRecord* waiting = context.state.FindJob(command.by);
  if (waiting == nullptr || StateOf(*waiting) != v1::QUEUED) return {};
  Decision decision;
  for (const std::string& victim : command.victims) {
    const JobRecord* record = context.state.FindJob(victim);
    if (record == nullptr || StateOf(*record) != v1::RUNNING ||
        !IsHolder(record->current(), command.worker) ||
        record->current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED) {
      return {};
    }
    JobDraft draft(*record, context.now);
    Event event = draft.NewEvent(v1::JobEvent::YIELD_ORDERED, v1::RUNNING, v1::PREEMPTED,
                                 absl::StrCat("makes room for ", command.by));
    event.mutable_attempt_ordered()->set_desired(v1::Assignment::YIELD);
    draft.Add(std::move(event));
    for (Event& drafted : draft.TakeEvents()) decision.events.push_back(std::move(drafted));
  }
  JobDraft draft(*waiting, context.now);
  Event event = draft.NewEvent(
      v1::JobEvent::NOTE, v1::QUEUED, waiting->job().status().reason(),
      absl::StrCat(command.victims.size() == 1 ? "a job" : "jobs", " on ", command.worker,
                   command.victims.size() == 1 ? " was" : " were", " told to make room"));
  event.mutable_worker_promised()->set_worker(command.worker);
  draft.Add(std::move(event));
  for (Event& drafted : draft.TakeEvents()) decision.events.push_back(std::move(drafted));
  return decision;
}

Decision DecideRelease(const ReleaseJob& command, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(command.job);
  if (record == nullptr || !record->has_waits_until() ||
      context.now < FromProto(record->waits_until())) {
    return {};
  }
  JobDraft draft(*record, context.now);
  Event event =
      draft.NewEvent(v1::JobEvent::NOTE, draft.state(), record->job().status().reason(),
                     IsBackingOff(*record) ? "it is tried again" : "its start_after has come");
  event.mutable_start_reached();
  draft.Add(std::move(event));
  return Done(&draft);
}

Decision DecideExpire(const ExpireJob& command, const DecisionContext& context) {
  const JobRecord* record = context.state.FindJob(command.job);
  if (record == nullptr || !record->job().timing().has_deadline() || !MayExpire(StateOf(*record)) ||
      context.now < FromProto(record->job().timing().deadline())) {
    return {};
  }
  v1::Failure failure;
  failure.set_code("DEADLINE_EXCEEDED");
  failure.set_fault(v1::Failure::USER);
  failure.set_field("timing.deadline");
  failure.set_message(absl::StrCat("no result at its deadline, ",
                                   absl::FormatTime(FromProto(record->job().timing().deadline()))));
  JobDraft draft(*record, context.now);
  if (record->has_current()) {
    EndAttempt({.end = v1::Attempt::STOPPED, .failure = failure}, context.options, &draft);
  } else {
    Fail(failure, "", &draft);
  }
  return Done(&draft);
}

}  // namespace deltaworks::scheduler
