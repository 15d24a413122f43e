// Witness: sees everything that is said and stored in a world, and finds what must never be.
//
//   leases     by the workers' own clocks, at most one worker trains a job, or one gang that was
//              granted whole, and none without a lease
//   events         epochs grow by one, attempt ids never come again, checkpoints grow and are the
//              current attempt's, a step's metrics are recorded once, nothing follows a job's end
//   durable    what a worker or a person was told is in the log; the log never loses an event, and
//              what is stored replays to the state that the events give
//   quotas     no grant puts a tenant on more devices than its limit
//   results    a job has at most one version, of the adapter that its training must give
//   archive    a job leaves the state as it was, after its end, and is found so; it is deleted only
//              if somebody asked for that
//
// Violations are kept, not thrown: the world prints them with its seed. Not thread-safe.

#ifndef DELTAWORKS_TESTS_SIMULATION_WITNESS_H_
#define DELTAWORKS_TESTS_SIMULATION_WITNESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "scheduler/state.h"
#include "services/scheduler/event_store.h"
#include "services/worker/seams.h"
#include "tests/simulation/timeline.h"

namespace deltaworks::simulation {

class Witness {
 public:
  Witness(const Timeline& timeline, const scheduler::Options& options);

  void Violation(const std::string& what);
  const std::vector<std::string>& violations() const { return violations_; }

  // ---- The log ----
  void Committed(absl::Span<const scheduler::Event> events);
  // A commit failed; perhaps it was stored.
  void CommitFailed(absl::Span<const scheduler::Event> events);
  // What a scheduler finds stored; of the archive, what changed since the last time is read.
  void Loaded(const services::EventStore::Stored& stored, services::EventStore& store);
  // True once for every 1,000 events.
  bool TakeReplayDue();
  // The state that all events give.
  const scheduler::State& state() const { return *state_; }
  // In the state or the archive; nullptr if it was deleted or never was.
  const scheduler::JobRecord* FindJob(const std::string& job) const;
  // Archived jobs by name; null: deleted.
  using Archived = absl::btree_map<std::string, std::shared_ptr<const scheduler::JobRecord>>;
  const Archived& archived() const { return archived_; }
  // Manifests by version, of deleted jobs.
  const absl::btree_map<std::string, std::string>& versions_of_deleted() const {
    return versions_of_deleted_;
  }
  // Granted so far.
  int64_t gangs() const { return gangs_; }
  bool unknown() const { return !unknown_.empty(); }

  // ---- Workers ----
  struct Attempt {
    std::string job;
    std::string worker;
    // That hold it: the worker, or those of its gang that did not leave.
    absl::btree_set<std::string> holders;
    int64_t lease_epoch = 0;
    bool ended = false;
  };
  // By attempt id: all that were ever granted.
  const absl::flat_hash_map<std::string, Attempt>& attempts() const { return attempts_; }
  const std::vector<std::string>& attempt_ids() const { return attempt_ids_; }

  // `worker` got an answer to what it sent; by its clock its leases go on until `until`.
  void Answered(const std::string& worker, const v1::SyncResponse& answer, absl::Duration until);
  // It takes the attempt up: from now on until it is released, it trains.
  void Started(const std::string& worker, const services::AttemptKey& key);
  // It begins a step.
  void Step(const std::string& worker, const services::AttemptKey& key);
  // It no longer trains the attempt.
  void Released(const std::string& worker, const services::AttemptKey& key);
  // The same for all of a process that is no more.
  void Died(const std::string& worker);

  // ---- People ----
  // Somebody was told that the job is accepted.
  void Accepted(const std::string& job);
  const absl::btree_set<std::string>& accepted() const { return accepted_; }
  // Somebody asks for its deletion, and was told that it is deleted.
  void DeletionAsked(const std::string& job) { may_be_deleted_.insert(job); }
  void Deleted(const std::string& job);
  bool IsDeleted(const std::string& job) const;

  // ---- The registry ----
  void VersionMade(const v1::AdapterVersion& version);

  // Of everything seen so far.
  uint64_t digest() const { return digest_; }

 private:
  // Somebody who trains a job.
  struct Holder {
    std::string worker;
    std::string attempt_id;
  };

  // Of those that train `job`, at most one has a lease.
  void CheckHolders(const std::string& job);

  void Take(const scheduler::Event& event);
  void TakeGrant(const scheduler::Event& event);
  void TakeEnd(const scheduler::Event& event);
  void Release(const std::string& job, const std::string& worker);
  void TakeProgress(const scheduler::Event& event);
  // Before it is folded.
  void TakeArchived(const scheduler::Event& event);
  void CheckArchive(services::EventStore& store);
  void Digest(absl::string_view bytes);

  const Timeline& timeline_;
  const scheduler::Options options_;
  std::vector<std::string> violations_;
  uint64_t digest_ = 0xCBF29CE484222325;

  std::unique_ptr<scheduler::State> state_;
  std::vector<scheduler::Event> unknown_;
  int64_t next_replay_ = 1000;
  int64_t gangs_ = 0;

  absl::flat_hash_map<std::string, Attempt> attempts_;
  std::vector<std::string> attempt_ids_;
  absl::flat_hash_map<std::string, std::string> current_;  // Attempt ids, by job.
  absl::flat_hash_map<std::string, int64_t> epochs_;       // By job.
  absl::flat_hash_map<std::string, int64_t> metric_steps_;
  absl::flat_hash_map<std::string, int64_t> checkpoint_steps_;
  absl::flat_hash_set<std::string> final_;
  Archived archived_;
  absl::btree_map<std::string, std::string> versions_of_deleted_;
  absl::btree_set<std::string> archive_unread_;
  absl::flat_hash_set<std::string> may_be_deleted_;
  // Workers of each tenant, with how many of its attempts are there.
  absl::btree_map<std::string, absl::btree_map<std::string, int64_t>> devices_;
  absl::btree_map<std::string, int64_t> limits_;

  absl::flat_hash_map<std::string, std::vector<Holder>> holders_;  // By job.
  // Ends, by attempt id and worker.
  absl::flat_hash_map<std::pair<std::string, std::string>, absl::Duration> leases_;
  absl::btree_set<std::string> accepted_;
  absl::flat_hash_map<std::string, std::string> versions_;  // By job.
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_WITNESS_H_
