#include "tests/simulation/witness.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/resource_name.h"
#include "tests/simulation/job_content.h"

namespace deltaworks::simulation {
namespace {

using scheduler::Event;
using scheduler::State;

constexpr int64_t kReplayEvery = 1000;
constexpr size_t kViolationsKept = 20;

}  // namespace

Witness::Witness(const Timeline& timeline, const scheduler::Options& options)
    : timeline_(timeline), options_(options), state_(std::make_unique<State>(options)) {}

void Witness::Violation(const std::string& what) {
  if (violations_.size() == kViolationsKept) return;
  violations_.push_back(absl::StrCat("at ", absl::FormatDuration(timeline_.now()), ": ", what));
}

void Witness::Digest(absl::string_view bytes) {
  for (const char byte : bytes) {
    digest_ = (digest_ ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  }
}

// ---- The log ----

void Witness::Committed(absl::Span<const Event> events) {
  if (!unknown_.empty()) Violation("a commit follows one of which nobody knows");
  for (const Event& event : events) Take(event);
}

void Witness::CommitFailed(absl::Span<const Event> events) {
  unknown_.assign(events.begin(), events.end());
}

void Witness::Loaded(const services::EventStore::Stored& stored, services::EventStore& store) {
  const int64_t count = stored.snapshot.event_count() + static_cast<int64_t>(stored.events.size());
  const int64_t known = state_->event_count();
  if (count == known + static_cast<int64_t>(unknown_.size())) {
    for (const Event& event : unknown_) Take(event);
  } else if (count != known) {
    return Violation(absl::StrCat("the log has ", count, " events, want ", known, " or with ",
                                  unknown_.size(), " more"));
  }
  unknown_.clear();
  auto replayed = State::FromSnapshot(stored.snapshot, options_);
  if (!replayed.ok()) return Violation(replayed.status().ToString());
  for (const Event& event : stored.events) {
    if (absl::Status status = (*replayed)->Fold(event); !status.ok()) {
      return Violation(status.ToString());
    }
  }
  if (DeterministicBytes((*replayed)->ToSnapshot()) != DeterministicBytes(state_->ToSnapshot())) {
    Violation("what is stored replays to another state");
  }
  CheckArchive(store);
}

void Witness::CheckArchive(services::EventStore& store) {
  for (const std::string& job : std::exchange(archive_unread_, {})) {
    const auto found = store.FindArchived(job);
    const auto& want = archived_.at(job);
    if (!found.ok() || !found->has_value()) {
      Violation(absl::StrCat(job, " is not in the archive: ", found.status().ToString()));
    } else if (((*found)->record == nullptr) != (want == nullptr) ||
               (want != nullptr &&
                DeterministicBytes(*(*found)->record) != DeterministicBytes(*want))) {
      Violation(absl::StrCat(job, " is in the archive as another"));
    }
  }
}

const scheduler::JobRecord* Witness::FindJob(const std::string& job) const {
  if (const scheduler::JobRecord* record = state_->FindJob(job)) return record;
  const auto found = archived_.find(job);
  return found == archived_.end() ? nullptr : found->second.get();
}

bool Witness::IsDeleted(const std::string& job) const {
  const auto found = archived_.find(job);
  return found != archived_.end() && found->second == nullptr;
}

void Witness::Deleted(const std::string& job) {
  if (!IsDeleted(job)) Violation(absl::StrCat(job, " is deleted, somebody was told, and is not"));
}

bool Witness::TakeReplayDue() {
  if (state_->event_count() < next_replay_) return false;
  next_replay_ = state_->event_count() + kReplayEvery;
  return true;
}

void Witness::Take(const Event& event) {
  Digest(event.job());
  Digest(absl::StrCat(event.time().seconds(), ".", event.time().nanos(), " ", event.kind_case(),
                      " ", event.shown().message()));
  TakeArchived(event);
  if (absl::Status status = state_->Fold(event); !status.ok()) Violation(status.ToString());
  const std::string& job = event.job();
  if (event.has_job_archived() || event.has_job_deleted()) return;
  // A request about it is still remembered.
  const bool says_something = event.has_shown() || event.kind_case() != Event::KIND_NOT_SET;
  if (says_something && !job.empty() && final_.contains(job)) {
    Violation(absl::StrCat(job, ": an event follows its end: ", event.ShortDebugString()));
  }
  TakeEnd(event);
  TakeGrant(event);
  TakeProgress(event);
  if (event.has_quota_set()) {
    const v1::Quota& quota = event.quota_set().quota();
    const std::string tenant(scheduler::TenantOf(quota.name()));
    limits_.erase(tenant);
    if (quota.has_limit_devices()) limits_[tenant] = quota.limit_devices();
  }
  if (event.shown().level() == v1::JobEvent::ALERT) {
    Violation(absl::StrCat(job, ": alert: ", event.shown().message()));
  }
  if (event.has_shown() && scheduler::IsFinal(event.shown().state())) final_.insert(job);
  if (job.empty()) return;
  const scheduler::JobRecord* const record = state_->FindJob(job);
  if (record == nullptr) {
    Violation(absl::StrCat(job, ": an event of a job that is not there"));
  } else if (record->has_current() != scheduler::IsOnWorker(StateOf(*record))) {
    Violation(absl::StrCat(job, ": its state does not suit its attempt"));
  }
}

void Witness::TakeArchived(const Event& event) {
  const std::string& job = event.job();
  if (event.has_job_archived()) {
    const scheduler::JobRecord* const record = state_->FindJob(job);
    if (record == nullptr || !final_.contains(job)) {
      return Violation(absl::StrCat(job, " is archived before its end"));
    }
    auto archived = std::make_shared<scheduler::JobRecord>(event.job_archived().record());
    if (DeterministicBytes(*archived) != DeterministicBytes(*record)) {
      Violation(absl::StrCat(job, " is archived as another"));
    }
    archived_[job] = std::move(archived);
    archive_unread_.insert(job);
  } else if (event.has_job_deleted()) {
    const auto found = archived_.find(job);
    if (found == archived_.end() || found->second == nullptr || !may_be_deleted_.contains(job)) {
      return Violation(absl::StrCat(job, " is deleted: twice, too early or unasked"));
    }
    const v1::JobStatus& status = found->second->job().status();
    if (status.state() == v1::SUCCEEDED) {
      versions_of_deleted_[status.result().version()] = status.result().manifest_digest();
    }
    found->second = nullptr;
    archive_unread_.insert(job);
  }
}

void Witness::TakeGrant(const Event& event) {
  if (!event.has_attempt_granted()) return;
  const v1::Attempt& granted = event.attempt_granted().attempt();
  const std::string& job = event.job();
  if (granted.lease_epoch() != ++epochs_[job]) {
    Violation(absl::StrCat(job, ": epoch is ", granted.lease_epoch(), ", want ", epochs_[job]));
  }
  if (current_.contains(job)) Violation(absl::StrCat(job, ": is granted while it is held"));
  Attempt attempt = {.job = job, .worker = granted.worker(), .lease_epoch = granted.lease_epoch()};
  attempt.holders.insert(granted.worker());
  attempt.holders.insert(granted.gang().begin(), granted.gang().end());
  const auto size = static_cast<int32_t>(attempt.holders.size());
  if (size != scheduler::GangSizeOf(state_->FindJob(job)->job())) {
    Violation(absl::StrCat(job, ": ", size, " workers were granted, not its gang"));
  }
  if (size > 1) {
    ++gangs_;
    for (const std::string& worker : attempt.holders) {
      if (state_->JobsOn(worker).size() != 1)
        Violation(absl::StrCat(job, ": its gang has company"));
    }
  }
  const std::string tenant(scheduler::TenantOf(job));
  auto& devices = devices_[tenant];
  // A limit that was lowered stops nobody: who joins a device that it is on is not on more.
  bool more = false;
  for (const std::string& worker : attempt.holders) more |= ++devices[worker] == 1;
  if (!attempts_.try_emplace(granted.attempt_id(), std::move(attempt)).second) {
    Violation(absl::StrCat(job, ": attempt id ", granted.attempt_id(), " came again"));
  }
  attempt_ids_.push_back(granted.attempt_id());
  current_[job] = granted.attempt_id();
  const auto limit = limits_.find(tenant);
  if (more && limit != limits_.end() && static_cast<int64_t>(devices.size()) > limit->second) {
    Violation(
        absl::StrCat(tenant, " is on ", devices.size(), " devices, want at most ", limit->second));
  }
}

void Witness::Release(const std::string& job, const std::string& worker) {
  Attempt& attempt = attempts_[current_[job]];
  if (attempt.holders.erase(worker) == 0) {
    return Violation(absl::StrCat(job, ": ", worker, " leaves and did not hold it"));
  }
  auto& devices = devices_[std::string(scheduler::TenantOf(job))];
  if (--devices[worker] == 0) devices.erase(worker);
}

void Witness::TakeEnd(const Event& event) {
  if (event.has_member_left()) Release(event.job(), event.member_left().worker());
  if (!event.has_attempt_ended() && !event.has_result_accepted()) return;
  const auto current = current_.find(event.job());
  if (current == current_.end()) {
    return Violation(absl::StrCat(event.job(), ": an attempt ends that is not there"));
  }
  Attempt& attempt = attempts_[current->second];
  attempt.ended = true;
  if (event.has_result_accepted() && attempt.holders.size() > 1) {
    Violation(absl::StrCat(event.job(), ": its result is taken while others of its gang hold it"));
  }
  const absl::btree_set<std::string> holders = attempt.holders;
  for (const std::string& worker : holders) Release(event.job(), worker);
  current_.erase(current);
}

void Witness::TakeProgress(const Event& event) {
  const std::string& job = event.job();
  if (event.has_checkpoint_committed()) {
    const v1::Checkpoint& checkpoint = event.checkpoint_committed().checkpoint();
    if (current_[job] != checkpoint.attempt_id()) {
      Violation(absl::StrCat(job, ": a checkpoint of another attempt"));
    }
    if (checkpoint.step() <= std::exchange(checkpoint_steps_[job], checkpoint.step())) {
      Violation(absl::StrCat(job, ": its checkpoint went back to step ", checkpoint.step()));
    }
  }
  for (const v1::MetricPoint& point : event.metrics_recorded().points()) {
    if (point.step() <= std::exchange(metric_steps_[job], point.step())) {
      Violation(absl::StrCat(job, ": metrics of step ", point.step(), " came again"));
    }
  }
}

// ---- Workers ----

void Witness::Answered(const std::string& worker, const v1::SyncResponse& answer,
                       absl::Duration until) {
  for (const v1::Assignment& assignment : answer.assignments()) {
    const auto attempt = attempts_.find(assignment.attempt_id());
    const bool stop = assignment.desired() == v1::Assignment::STOP;
    if (stop && !assignment.result_accepted()) continue;
    if (attempt == attempts_.end()) {
      Violation(absl::StrCat(worker, " was told of an attempt of ", assignment.job(),
                             " that is not in the log"));
      continue;
    }
    if (stop) continue;
    absl::Duration& lease = leases_[{assignment.attempt_id(), worker}];
    lease = std::max(lease, until);
    CheckHolders(assignment.job());
  }
}

void Witness::CheckHolders(const std::string& job) {
  const auto holders = holders_.find(job);
  if (holders == holders_.end()) return;
  const Holder* first = nullptr;
  for (const Holder& holder : holders->second) {
    if (leases_[{holder.attempt_id, holder.worker}] <= timeline_.now()) continue;
    if (first != nullptr && first->attempt_id != holder.attempt_id) {
      Violation(absl::StrCat(job, " has two workers: ", first->worker, " and ", holder.worker));
    }
    first = &holder;
  }
}

void Witness::Started(const std::string& worker, const services::AttemptKey& key) {
  holders_[key.job].push_back({worker, key.attempt_id});
  CheckHolders(key.job);
}

void Witness::Step(const std::string& worker, const services::AttemptKey& key) {
  if (leases_[{key.attempt_id, worker}] > timeline_.now()) return;
  Violation(absl::StrCat(key.job, ": ", worker, " begins a step without a lease"));
}

void Witness::Released(const std::string& worker, const services::AttemptKey& key) {
  std::erase_if(holders_[key.job], [&](const Holder& holder) {
    return holder.attempt_id == key.attempt_id && holder.worker == worker;
  });
}

void Witness::Died(const std::string& worker) {
  for (auto& [job, holders] : holders_) {
    std::erase_if(holders, [&](const Holder& holder) { return holder.worker == worker; });
  }
}

// ---- People and the registry ----

void Witness::Accepted(const std::string& job) {
  accepted_.insert(job);
  if (FindJob(job) == nullptr) {
    Violation(absl::StrCat(job, " was accepted and is not in the log"));
  }
}

void Witness::VersionMade(const v1::AdapterVersion& version) {
  const std::string& job = version.source().job();
  const auto [known, is_new] = versions_.try_emplace(job, version.name());
  if (!is_new && known->second != version.name()) {
    Violation(absl::StrCat(job, " has two versions: ", known->second, " and ", version.name()));
  }
  if (!is_new) return;
  if (version.state() != v1::AdapterVersion::READY) {
    return Violation(absl::StrCat(job, ": its version was refused: ", version.failure().message()));
  }
  const scheduler::JobRecord* const record = FindJob(job);
  if (record == nullptr || !record->job().status().has_result()) {
    return Violation(absl::StrCat(job, " got a version before its result was in the log"));
  }
  if (version.manifest_digest() != ExpectedResult(record->job())) {
    Violation(absl::StrCat(job, ": its adapter is not what its training gives"));
  }
}

}  // namespace deltaworks::simulation
