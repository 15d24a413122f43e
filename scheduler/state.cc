#include "scheduler/state.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "scheduler/job_fold.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::scheduler {
namespace {

template <typename Set, typename Item>
void Put(bool in, const Item& item, Set* set) {
  if (in) {
    set->insert(item);
  } else {
    set->erase(item);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<State>> State::FromSnapshot(const Snapshot& snapshot,
                                                           const Options& options) {
  auto state = std::make_unique<State>(options);
  state->term_ = snapshot.term();
  state->last_time_ = FromProto(snapshot.last_time());
  state->event_count_ = snapshot.event_count();
  for (const JobRecord& record : snapshot.jobs()) {
    if (state->job_by_name_.contains(record.job().name())) {
      return absl::DataLossError(
          absl::StrCat("the snapshot has ", record.job().name(), " more than once"));
    }
    state->Index(state->Insert(record.job().name(), record), /*in=*/true);
  }
  for (const StoredRequest& request : snapshot.requests()) {
    DW_RETURN_IF_ERROR(state->requests_.Store(request));
  }
  for (const WorkerJoined& worker : snapshot.workers()) {
    state->workers_[worker.worker()] = worker.incarnation();
  }
  for (const TenantUsage& usage : snapshot.usage()) state->usage_.Restore(usage);
  for (const v1::Quota& quota : snapshot.quotas()) state->quotas_[TenantOf(quota.name())] = quota;
  for (const WorkerModeSet& set : snapshot.worker_modes()) {
    state->worker_modes_[set.worker()] = set;
  }
  for (const WorkerTrouble& trouble : snapshot.troubles()) state->troubles_.Restore(trouble);
  return state;
}

Snapshot State::ToSnapshot() const {
  Snapshot snapshot;
  snapshot.set_term(term_);
  *snapshot.mutable_last_time() = ToProto(last_time_);
  snapshot.set_event_count(event_count_);
  for (const auto& [name, record] : jobs_) *snapshot.add_jobs() = record;
  requests_.AppendTo(snapshot.mutable_requests());
  for (const auto& [worker, incarnation] : workers_) {
    WorkerJoined& joined = *snapshot.add_workers();
    joined.set_worker(worker);
    joined.set_incarnation(incarnation);
  }
  usage_.AppendTo(snapshot.mutable_usage());
  for (const auto& [tenant, quota] : quotas_) *snapshot.add_quotas() = quota;
  for (const auto& [worker, set] : worker_modes_) *snapshot.add_worker_modes() = set;
  for (const auto& [worker, trouble] : troubles_.all()) *snapshot.add_troubles() = trouble;
  return snapshot;
}

absl::Status State::Fold(const Event& event) {
  const absl::Time time = FromProto(event.time());
  if (time < last_time_) {
    return absl::DataLossError(absl::StrCat("event ", event_count_ + 1, " is of ",
                                            absl::FormatTime(time), ", before the one before it"));
  }
  DW_RETURN_IF_ERROR(event.job().empty() ? FoldPlatform(event) : FoldJob(event));
  // That of a deletion goes to the archive, as all others about the job did.
  if (event.has_request() && !event.has_job_deleted()) {
    DW_RETURN_IF_ERROR(requests_.Store(event.request()));
  }
  last_time_ = time;
  ++event_count_;
  return absl::OkStatus();
}

absl::Status State::FoldPlatform(const Event& event) {
  if (event.has_scheduler_started()) {
    if (event.scheduler_started().term() <= term_) {
      return absl::DataLossError(
          absl::StrCat("term ", event.scheduler_started().term(), " follows term ", term_));
    }
    term_ = event.scheduler_started().term();
    return absl::OkStatus();
  }
  if (event.has_worker_joined()) return FoldWorkerJoined(event.worker_joined());
  if (event.has_quota_set()) {
    quotas_[TenantOf(event.quota_set().quota().name())] = event.quota_set().quota();
    return absl::OkStatus();
  }
  if (event.has_worker_mode_set()) {
    const WorkerModeSet& set = event.worker_mode_set();
    if (set.mode() == v1::WORKER_ACTIVE) {
      worker_modes_.erase(set.worker());
    } else {
      worker_modes_[set.worker()] = set;
    }
    if (set.mode() == v1::WORKER_QUARANTINED) troubles_.Quarantined(set.worker());
    if (set.clears_trouble()) troubles_.Clear(set.worker());
    changed_workers_.insert(set.worker());
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat("event ", event_count_ + 1, " names no job"));
}

JobRecord& State::Insert(const std::string& name, JobRecord record) {
  const auto added = jobs_.emplace(name, std::move(record)).first;
  job_by_name_.emplace(added->first, &added->second);
  ages_[std::string(TenantOf(name))].emplace(FromProto(added->second.job().create_time()),
                                             added->first);
  return added->second;
}

absl::Status State::FoldWorkerJoined(const WorkerJoined& joined) {
  int64_t& incarnation = workers_[joined.worker()];
  if (joined.incarnation() <= incarnation) {
    return absl::DataLossError(absl::StrCat(joined.worker(), ": incarnation ", joined.incarnation(),
                                            " follows incarnation ", incarnation));
  }
  incarnation = joined.incarnation();
  return absl::OkStatus();
}

absl::Status State::FoldArchived(const Event& event) {
  const auto found = job_by_name_.find(event.job());
  const bool is_there = found != job_by_name_.end();
  if (event.has_job_archived() != is_there || (is_there && !IsFinal(StateOf(*found->second)))) {
    return absl::DataLossError(absl::StrCat("event ", event_count_ + 1, " archives or deletes ",
                                            event.job(), ", which is ", is_there ? "in" : "not in",
                                            " the state"));
  }
  if (!is_there) return absl::OkStatus();
  const JobRecord& record = *found->second;
  Index(record, /*in=*/false);
  requests_.DropAbout(event.job());
  const auto ages = ages_.find(TenantOf(event.job()));
  ages->second.erase({FromProto(record.job().create_time()), found->first});
  if (ages->second.empty()) ages_.erase(ages);
  job_by_name_.erase(found);
  jobs_.erase(event.job());
  return absl::OkStatus();
}

absl::Status State::FoldJob(const Event& event) {
  if (event.has_job_archived() || event.has_job_deleted()) return FoldArchived(event);
  const auto found = job_by_name_.find(event.job());
  if (found == job_by_name_.end()) {
    JobRecord created;
    DW_RETURN_IF_ERROR(FoldIntoJob(event, &created));
    Index(Insert(event.job(), std::move(created)), /*in=*/true);
    return absl::OkStatus();
  }
  JobRecord& record = *found->second;
  const v1::JobStatus& status = record.job().status();
  const Usage::Amount before = {.device_ms = status.device_ms(),
                                .tokens = status.progress().tokens()};
  if (event.has_attempt_ended() && event.attempt_ended().death()) {
    const CurrentAttempt& current = record.current();
    troubles_.Died(current.has_broken() ? current.broken().worker() : current.worker(), event.job(),
                   event.time());
  } else if (event.has_checkpoint_committed() || event.has_result_accepted()) {
    VisitHolders(record.current(), [&](const std::string& worker) { troubles_.Clear(worker); });
  }
  Index(record, /*in=*/false);
  DW_RETURN_IF_ERROR(FoldIntoJob(event, &record));
  Index(record, /*in=*/true);
  const Usage::Amount used = {
      .device_ms = status.device_ms() - before.device_ms,
      .tokens = status.progress().tokens() - before.tokens,
      .written_bytes = event.checkpoint_committed().checkpoint().size_bytes() +
                       event.result_accepted().result().size_bytes()};
  if (used.device_ms != 0 || used.tokens != 0 || used.written_bytes != 0) {
    usage_.Add(TenantOf(event.job()), used, FromProto(event.time()));
  }
  return absl::OkStatus();
}

void State::Index(const JobRecord& record, bool in) {
  const std::string& name = record.job().name();
  const v1::JobState state = StateOf(record);
  if (IsFinal(state)) {
    Put(in, std::pair(FromProto(record.job().end_time()), name), &ended_);
  } else {
    active_jobs_ += in ? 1 : -1;
  }
  if (state == v1::VALIDATING) Put(in, name, &validating_);
  if (state == v1::FINALIZING) Put(in, name, &finalizing_);
  if (state == v1::QUEUED) IndexQueued(record, in);
  if (record.job().timing().has_deadline() && MayExpire(state)) {
    Put(in, std::pair(FromProto(record.job().timing().deadline()), name), &deadlines_);
  }
  if (record.has_current()) IndexCurrent(record, in);
}

void State::IndexQueued(const JobRecord& record, bool in) {
  const std::string& name = record.job().name();
  if (!record.promised_worker().empty()) Put(in, name, &promised_);
  if (record.has_waits_until()) {
    Put(in, std::pair(FromProto(record.waits_until()), name), &waits_until_);
  } else if (in) {
    queue_.Insert(record);
  } else {
    queue_.Erase(record);
  }
}

void State::IndexCurrent(const JobRecord& record, bool in) {
  JobShape shape = ShapeOf(record, options_);
  const auto running = running_
                           .try_emplace({.base_manifest_digest = shape.base_manifest_digest,
                                         .compute_type = shape.compute_type,
                                         .device_kind = shape.device_kind})
                           .first;
  running->second.attempts += in ? 1 : -1;
  if (in) {
    running->second.work += RemainingWork(record);
  } else {
    running->second.work -= RemainingWork(record);
  }
  if (running->second.attempts == 0) running_.erase(running);
  VisitHolders(record.current(),
               [&](const std::string& worker) { IndexHolder(record, shape, worker, in); });
}

void State::IndexHolder(const JobRecord& record, const JobShape& shape, const std::string& worker,
                        bool in) {
  const std::string& name = record.job().name();
  changed_workers_.insert(worker);
  Devices& devices = devices_[TenantOf(name)];
  int64_t& on_worker = devices.by_worker[worker];
  devices.attempts += in ? 1 : -1;
  on_worker += in ? 1 : -1;
  if (on_worker == 0) devices.by_worker.erase(worker);
  if (devices.attempts == 0) devices_.erase(TenantOf(name));

  Names& jobs = jobs_by_worker_[worker];
  WorkerLoad& load = loads_[worker];
  Put(in, name, &jobs);
  if (in) {
    load.Add({.job = name,
              .shape = shape,
              .priority_class = record.job().priority_class(),
              .granted = FromProto(record.job().status().attempts().rbegin()->grant_time()),
              .alone = record.current().alone(),
              .leaving = StateOf(record) != v1::RUNNING ||
                         record.current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED,
              .remaining_flops = RemainingFlops(record) / GangSizeOf(record.job())});
  } else {
    load.Remove(name);
  }
  if (!jobs.empty()) return;
  jobs_by_worker_.erase(worker);
  loads_.erase(worker);
}

const JobRecord* State::FindJob(absl::string_view name) const {
  const auto found = job_by_name_.find(name);
  return found == job_by_name_.end() ? nullptr : found->second;
}

const State::Ages& State::AgesOf(absl::string_view tenant) const {
  static const Ages* const kNone = new Ages();
  const auto found = ages_.find(tenant);
  return found == ages_.end() ? *kNone : found->second;
}

const State::Names& State::JobsOn(absl::string_view worker) const {
  static const Names* const kNone = new Names();
  const auto found = jobs_by_worker_.find(worker);
  return found == jobs_by_worker_.end() ? *kNone : found->second;
}

const WorkerLoad& State::LoadOf(absl::string_view worker) const {
  static const WorkerLoad* const kNone = new WorkerLoad();
  const auto found = loads_.find(worker);
  return found == loads_.end() ? *kNone : found->second;
}

const absl::btree_map<std::string, int64_t>& State::DevicesOf(absl::string_view tenant) const {
  static const auto* const kNone = new absl::btree_map<std::string, int64_t>();
  const auto found = devices_.find(tenant);
  return found == devices_.end() ? *kNone : found->second.by_worker;
}

int64_t State::AttemptsOf(absl::string_view tenant) const {
  const auto found = devices_.find(tenant);
  return found == devices_.end() ? 0 : found->second.attempts;
}

v1::WorkerMode State::WorkerMode(absl::string_view worker) const {
  const auto found = worker_modes_.find(worker);
  return found == worker_modes_.end() ? v1::WORKER_ACTIVE : found->second.mode();
}

int64_t State::WorkerIncarnation(absl::string_view worker) const {
  const auto found = workers_.find(worker);
  return found == workers_.end() ? 0 : found->second;
}

std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

}  // namespace deltaworks::scheduler
