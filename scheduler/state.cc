#include "scheduler/state.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "scheduler/job_fold.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
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
    const auto [added, is_new] = state->jobs_.emplace(record.job().name(), record);
    if (!is_new) {
      return absl::DataLossError(
          absl::StrCat("the snapshot has ", record.job().name(), " more than once"));
    }
    state->Index(added->second, /*in=*/true);
  }
  for (const StoredRequest& request : snapshot.requests()) {
    DW_RETURN_IF_ERROR(state->requests_.Store(request));
  }
  for (const WorkerJoined& worker : snapshot.workers()) {
    state->workers_[worker.worker()] = worker.incarnation();
  }
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
  return snapshot;
}

absl::Status State::Fold(const Event& event) {
  const absl::Time time = FromProto(event.time());
  if (time < last_time_) {
    return absl::DataLossError(absl::StrCat("event ", event_count_ + 1, " is of ",
                                            absl::FormatTime(time), ", before the one before it"));
  }
  DW_RETURN_IF_ERROR(event.job().empty() ? FoldPlatform(event) : FoldJob(event));
  if (event.has_request()) DW_RETURN_IF_ERROR(requests_.Store(event.request()));
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
  if (event.has_worker_joined()) {
    int64_t& incarnation = workers_[event.worker_joined().worker()];
    if (event.worker_joined().incarnation() <= incarnation) {
      return absl::DataLossError(absl::StrCat(event.worker_joined().worker(), ": incarnation ",
                                              event.worker_joined().incarnation(),
                                              " follows incarnation ", incarnation));
    }
    incarnation = event.worker_joined().incarnation();
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat("event ", event_count_ + 1, " names no job"));
}

absl::Status State::FoldJob(const Event& event) {
  const auto found = jobs_.find(event.job());
  if (found == jobs_.end()) {
    JobRecord record;
    DW_RETURN_IF_ERROR(FoldIntoJob(event, &record));
    Index(jobs_.emplace(event.job(), std::move(record)).first->second, /*in=*/true);
    return absl::OkStatus();
  }
  Index(found->second, /*in=*/false);
  DW_RETURN_IF_ERROR(FoldIntoJob(event, &found->second));
  Index(found->second, /*in=*/true);
  return absl::OkStatus();
}

void State::Index(const JobRecord& record, bool in) {
  const std::string& name = record.job().name();
  const v1::JobState state = StateOf(record);
  if (!IsFinal(state)) active_jobs_ += in ? 1 : -1;
  if (state == v1::VALIDATING) Put(in, name, &validating_);
  if (state == v1::FINALIZING) Put(in, name, &finalizing_);
  if (state == v1::QUEUED) Put(in, MakeQueueKey(record.job(), options_), &queue_);
  if (record.has_current()) {
    const auto on_worker = jobs_by_worker_.try_emplace(record.current().worker()).first;
    Put(in, name, &on_worker->second);
    if (on_worker->second.empty()) jobs_by_worker_.erase(on_worker);
  }
}

const JobRecord* State::FindJob(absl::string_view name) const {
  const auto found = jobs_.find(name);
  return found == jobs_.end() ? nullptr : &found->second;
}

const State::Names& State::JobsOn(absl::string_view worker) const {
  static const Names* const kNone = new Names();
  const auto found = jobs_by_worker_.find(worker);
  return found == jobs_by_worker_.end() ? *kNone : found->second;
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
