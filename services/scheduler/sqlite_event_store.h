// SqliteEventStore: an EventStore in one SQLite file, held by this process alone.
//
//   log(position, event)                      not yet in a snapshot
//   snapshot(term, last_time_ns, event_count) one row
//   jobs(name, record)  requests(...)  workers(...)    State as of the snapshot
//   job_events(job, seq, event)
//   metrics(job, first_index, first_step, points)      points: a serialized MetricsRecorded
//   archived_...                                       sqlite_job_archive.h
//
// A snapshot rewrites only the rows of what the dropped part of the log named, so its cost follows
// the log and not the number of jobs. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_SQLITE_EVENT_STORE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_SQLITE_EVENT_STORE_H_

#include <memory>
#include <string>

#include "absl/container/btree_set.h"
#include "services/base/sqlite.h"
#include "services/scheduler/event_store.h"
#include "services/scheduler/sqlite_job_archive.h"

namespace deltaworks::services {

class SqliteEventStore final : public EventStore {
 public:
  struct Options {
    std::string path;
    // 0: no bound.
    int64_t size_bytes_max = 0;
    // How long to wait for another process to let go of the file.
    int64_t busy_timeout_ms = 2000;
    // Of each job; older ones are dropped.
    int64_t events_kept = 50'000;
    // Points in one row of a job that ended: what one read asks for, since a row is parsed whole.
    int64_t packed_points_max = ReadLimits().count_max;
  };

  // FailedPrecondition if another process holds the file.
  static absl::StatusOr<std::unique_ptr<SqliteEventStore>> Open(const Options& options);

  absl::StatusOr<Stored> Load() override;
  absl::Status Append(int64_t first_position, absl::Span<const scheduler::Event> events,
                      bool* is_known) override;
  absl::Status WriteSnapshot(const scheduler::State& state) override;
  int64_t log_size() const override { return log_size_; }
  absl::StatusOr<std::vector<v1::JobEvent>> ReadEvents(const std::string& job, int64_t since_seq,
                                                       const ReadLimits& limits) override;
  absl::StatusOr<int64_t> OldestEvent(const std::string& job) override;
  absl::StatusOr<std::vector<v1::MetricPoint>> ReadMetrics(const std::string& job,
                                                           int64_t since_index,
                                                           const ReadLimits& limits) override;
  absl::StatusOr<int64_t> IndexBeforeStep(const std::string& job, int64_t step_min) override;
  absl::StatusOr<std::optional<scheduler::ArchivedJob>> FindArchived(
      const std::string& name) override;
  absl::StatusOr<std::optional<scheduler::StoredRequest>> FindArchivedRequest(
      absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) override;
  absl::StatusOr<std::vector<std::shared_ptr<const scheduler::JobRecord>>> ListArchived(
      const ArchiveQuery& query) override;
  absl::StatusOr<std::vector<std::string>> EndedBefore(absl::Time time, int64_t count_max) override;

 private:
  // What the log names and the snapshot does not hold yet.
  struct Dirty {
    absl::btree_set<std::string> jobs;
    std::vector<scheduler::StoredRequest> requests;
    std::vector<scheduler::StoredRequest> archived_requests;
    absl::btree_set<std::string> workers;
    absl::btree_set<std::string> tenants;  // Of usage.
    absl::btree_set<std::string> quotas;
    absl::btree_set<std::string> worker_modes;
    bool troubles = false;
    void Add(const scheduler::Event& event);
  };

  explicit SqliteEventStore(Options options) : options_(std::move(options)) {}

  absl::Status OpenFile();
  absl::StatusOr<scheduler::Snapshot> LoadSnapshot();
  absl::Status LoadShares(scheduler::Snapshot* snapshot);
  // What Append does within its transaction.
  absl::Status Insert(int64_t position, const scheduler::Event& event);
  absl::Status InsertShown(const std::string& job, const v1::JobEvent& shown);
  absl::Status PackMetrics(const std::string& job);
  absl::Status DeleteJob(const scheduler::Event& deleted);
  absl::Status InsertMetrics(const std::string& job, int64_t first_index,
                             const scheduler::MetricsRecorded& batch);
  // What WriteSnapshot does within its transaction.
  absl::Status UpdateState(const scheduler::State& state);
  absl::Status UpdateShares(const scheduler::State& state);
  absl::Status UpdateTroubles(const scheduler::State& state);

  const Options options_;
  // Null after an error that may have left a transaction open, until Load().
  std::unique_ptr<Database> database_;
  Dirty dirty_;
  int64_t log_size_ = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_SQLITE_EVENT_STORE_H_
