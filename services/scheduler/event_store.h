// EventStore: where the scheduler's decisions are durable, and what of them people read again.
//
// One log: event n (its position, from 1) is stored once, after all before it, in the transaction
// of its commit. Beside it, written by the same transaction:
//
//   state     the records of State as of some position; WriteSnapshot moves it on and drops the
//             log before it, so that the log stays short
//   events    what jobs show (JobEvent), by job and seq; the newest events_kept of each job
//   metrics   MetricPoints by job and index; packed into few large rows when a job ends
//   archive   what JobArchived events took out of the state, with indexes for lists; JobDeleted
//             drops it, with the job's events and metrics. A deleted job's requests are kept for
//             kRequestsKept, its name for ever
//
// The seam behind which PostgreSQL comes later; every implementation passes
// testing/event_store_contract_test.h.
//
//   SqliteEventStore   sqlite_event_store.h
//
// Errors: ResourceExhausted (disk full), FailedPrecondition (read-only, locked), DataLoss, others
// of the database. Thread-compatible: the scheduler's loop owns it.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_EVENT_STORE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_EVENT_STORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "scheduler/event.pb.h"
#include "scheduler/job_archive.h"
#include "scheduler/state.h"
#include "services/scheduler/job_filter.h"

namespace deltaworks::services {

// Most that one read returns; more is asked for with a later start.
struct ReadLimits {
  int64_t count_max = 1000;
  int64_t bytes_max = 2 << 20;
};

// Where a job stands in a list: by time of creation, then name.
struct JobKey {
  int64_t created_ns = 0;
  std::string name;

  static JobKey Of(const scheduler::JobRecord& record);
  bool operator<(const JobKey& other) const {
    return std::tie(created_ns, name) < std::tie(other.created_ns, other.name);
  }
};

struct ArchiveQuery {
  std::string tenant;
  // That all of them have; both parts empty: any.
  JobTerm term;
  std::optional<JobKey> after;
  bool newest_first = true;
  int64_t count_max = 100;
};

inline constexpr absl::Duration kRequestsKept = absl::Hours(7 * 24);

class EventStore : public scheduler::JobArchive {
 public:
  struct Stored {
    // Positions up to snapshot.event_count().
    scheduler::Snapshot snapshot;
    // Those that follow, in order.
    std::vector<scheduler::Event> events;
  };

  // Everything that is durable. After an error of Append or WriteSnapshot it is the only way on: it
  // begins anew and finds out whether that was stored.
  virtual absl::StatusOr<Stored> Load() = 0;

  // Stores `events`, the first of which has position `first_position`, all or none. `*is_known`
  // tells, after an error, whether it is certain that nothing was stored.
  virtual absl::Status Append(int64_t first_position, absl::Span<const scheduler::Event> events,
                              bool* is_known) = 0;

  // Moves the stored state on to `state`, which must be that of all events appended. On
  // ResourceExhausted nothing changed, and appending may go on.
  virtual absl::Status WriteSnapshot(const scheduler::State& state) = 0;

  // Events in the log that no snapshot holds.
  virtual int64_t log_size() const = 0;

  // Of `job`, with a larger seq than `since_seq`, in order.
  virtual absl::StatusOr<std::vector<v1::JobEvent>> ReadEvents(const std::string& job,
                                                               int64_t since_seq,
                                                               const ReadLimits& limits) = 0;
  // The smallest seq kept of `job`; 0 if it has no events.
  virtual absl::StatusOr<int64_t> OldestEvent(const std::string& job) = 0;

  // Of `job`, with a larger index than `since_index` (the first point has index 1), in order.
  virtual absl::StatusOr<std::vector<v1::MetricPoint>> ReadMetrics(const std::string& job,
                                                                   int64_t since_index,
                                                                   const ReadLimits& limits) = 0;
  // The index before the first point with step >= `step_min`: where reading those steps begins.
  virtual absl::StatusOr<int64_t> IndexBeforeStep(const std::string& job, int64_t step_min) = 0;

  // Archived jobs, in order; fewer than count_max only if there are no more.
  virtual absl::StatusOr<std::vector<std::shared_ptr<const scheduler::JobRecord>>> ListArchived(
      const ArchiveQuery& query) = 0;
  // Names of archived jobs that ended before `time`, oldest first.
  virtual absl::StatusOr<std::vector<std::string>> EndedBefore(absl::Time time,
                                                               int64_t count_max) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_EVENT_STORE_H_
