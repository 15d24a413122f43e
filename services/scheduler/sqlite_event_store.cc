#include "services/scheduler/sqlite_event_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "google/protobuf/message.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::Event;
using ::deltaworks::scheduler::JobRecord;
using ::deltaworks::scheduler::MetricsRecorded;
using ::deltaworks::scheduler::Snapshot;
using ::deltaworks::scheduler::State;

const char* const kSteps[] = {R"sql(
  CREATE TABLE log (position INTEGER PRIMARY KEY, event BLOB NOT NULL);
  CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL,
    last_time_ns INTEGER NOT NULL,
    event_count INTEGER NOT NULL
  );
  CREATE TABLE jobs (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE requests (
    tenant TEXT NOT NULL,
    rpc TEXT NOT NULL,
    request_id TEXT NOT NULL,
    stored BLOB NOT NULL,
    PRIMARY KEY (tenant, rpc, request_id)
  ) WITHOUT ROWID;
  CREATE TABLE workers (name TEXT PRIMARY KEY, incarnation INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE job_events (
    job TEXT NOT NULL,
    seq INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (job, seq)
  ) WITHOUT ROWID;
  CREATE TABLE metrics (
    job TEXT NOT NULL,
    first_index INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    points BLOB NOT NULL,
    PRIMARY KEY (job, first_index)
  );
)sql",
                              R"sql(
  CREATE TABLE usage (tenant TEXT PRIMARY KEY, used BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE quotas (tenant TEXT PRIMARY KEY, quota BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE worker_modes (worker TEXT PRIMARY KEY, mode INTEGER NOT NULL) WITHOUT ROWID;
)sql",
                              R"sql(
  ALTER TABLE worker_modes ADD COLUMN until_ns INTEGER;
  CREATE TABLE worker_troubles (
    worker TEXT PRIMARY KEY,
    trouble BLOB NOT NULL
  ) WITHOUT ROWID;
)sql",
                              SqliteJobArchive::kStep};

// Events between two looks for ones that are too old.
constexpr int64_t kPruneEvery = 256;

absl::Status Closed() {
  return absl::UnavailableError("the database is closed after an error, want it loaded again");
}

template <typename Message>
absl::Status Parse(const std::string& bytes, absl::string_view what, Message* message) {
  if (message->ParseFromString(bytes)) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(what, " of ", bytes.size(), " bytes in the database does not parse"));
}

}  // namespace

void SqliteEventStore::Dirty::Add(const Event& event) {
  if (!event.job().empty()) {
    jobs.insert(event.job());
    // Of an event that may count as usage.
    if (event.attempt_device_ms() != 0 || event.metrics_recorded().points_size() > 0 ||
        event.has_checkpoint_committed() || event.has_result_accepted()) {
      tenants.insert(std::string(scheduler::TenantOf(event.job())));
    }
  }
  if (event.has_quota_set()) {
    quotas.insert(std::string(scheduler::TenantOf(event.quota_set().quota().name())));
  }
  if (event.has_worker_mode_set()) worker_modes.insert(event.worker_mode_set().worker());
  troubles = troubles || event.has_worker_mode_set() || event.attempt_ended().death() ||
             event.has_checkpoint_committed() || event.has_result_accepted();
  if (event.has_request() && !event.has_job_deleted()) requests.push_back(event.request());
  for (const scheduler::StoredRequest& request : event.job_archived().requests()) {
    archived_requests.push_back(request);
  }
  if (event.has_worker_joined()) workers.insert(event.worker_joined().worker());
}

absl::StatusOr<std::unique_ptr<SqliteEventStore>> SqliteEventStore::Open(const Options& options) {
  std::unique_ptr<SqliteEventStore> store(new SqliteEventStore(options));
  DW_RETURN_IF_ERROR(store->OpenFile());
  return store;
}

absl::Status SqliteEventStore::OpenFile() {
  DW_ASSIGN_OR_RETURN(auto database,
                      Database::Open(options_.path, {.busy_timeout_ms = options_.busy_timeout_ms,
                                                     .size_bytes_max = options_.size_bytes_max}));
  DW_RETURN_IF_ERROR(database->Migrate(kSteps));
  database_ = std::move(database);
  return absl::OkStatus();
}

// ---- Reading all ----

absl::StatusOr<Snapshot> SqliteEventStore::LoadSnapshot() {
  Snapshot snapshot;
  {
    DW_ASSIGN_OR_RETURN(Rows rows,
                        database_->Query("SELECT term, last_time_ns, event_count FROM snapshot"));
    if (!rows.Next()) {
      DW_RETURN_IF_ERROR(rows.status());
      return snapshot;
    }
    snapshot.set_term(rows.Int64(0));
    *snapshot.mutable_last_time() = scheduler::ToProto(absl::FromUnixNanos(rows.Int64(1)));
    snapshot.set_event_count(rows.Int64(2));
  }
  DW_ASSIGN_OR_RETURN(Rows jobs, database_->Query("SELECT record FROM jobs ORDER BY name"));
  while (jobs.Next()) DW_RETURN_IF_ERROR(Parse(jobs.Text(0), "a job", snapshot.add_jobs()));
  DW_RETURN_IF_ERROR(jobs.status());

  DW_ASSIGN_OR_RETURN(
      Rows requests,
      database_->Query("SELECT stored FROM requests ORDER BY tenant, rpc, request_id"));
  while (requests.Next()) {
    DW_RETURN_IF_ERROR(Parse(requests.Text(0), "a request", snapshot.add_requests()));
  }
  DW_RETURN_IF_ERROR(requests.status());

  DW_ASSIGN_OR_RETURN(Rows workers,
                      database_->Query("SELECT name, incarnation FROM workers ORDER BY name"));
  while (workers.Next()) {
    scheduler::WorkerJoined& joined = *snapshot.add_workers();
    joined.set_worker(workers.Text(0));
    joined.set_incarnation(workers.Int64(1));
  }
  DW_RETURN_IF_ERROR(workers.status());
  DW_RETURN_IF_ERROR(LoadShares(&snapshot));
  return snapshot;
}

absl::Status SqliteEventStore::LoadShares(Snapshot* snapshot) {
  DW_ASSIGN_OR_RETURN(Rows usage, database_->Query("SELECT used FROM usage ORDER BY tenant"));
  while (usage.Next()) {
    DW_RETURN_IF_ERROR(Parse(usage.Text(0), "what a tenant used", snapshot->add_usage()));
  }
  DW_RETURN_IF_ERROR(usage.status());
  DW_ASSIGN_OR_RETURN(Rows quotas, database_->Query("SELECT quota FROM quotas ORDER BY tenant"));
  while (quotas.Next()) {
    DW_RETURN_IF_ERROR(Parse(quotas.Text(0), "a quota", snapshot->add_quotas()));
  }
  DW_RETURN_IF_ERROR(quotas.status());
  DW_ASSIGN_OR_RETURN(
      Rows modes,
      database_->Query("SELECT worker, mode, until_ns FROM worker_modes ORDER BY worker"));
  while (modes.Next()) {
    scheduler::WorkerModeSet& set = *snapshot->add_worker_modes();
    set.set_worker(modes.Text(0));
    set.set_mode(static_cast<v1::WorkerMode>(modes.Int64(1)));
    if (!modes.IsNull(2)) {
      *set.mutable_until() = scheduler::ToProto(absl::FromUnixNanos(modes.Int64(2)));
    }
  }
  DW_RETURN_IF_ERROR(modes.status());
  DW_ASSIGN_OR_RETURN(Rows troubles,
                      database_->Query("SELECT trouble FROM worker_troubles ORDER BY worker"));
  while (troubles.Next()) {
    DW_RETURN_IF_ERROR(Parse(troubles.Text(0), "a worker's trouble", snapshot->add_troubles()));
  }
  return troubles.status();
}

absl::StatusOr<EventStore::Stored> SqliteEventStore::Load() {
  if (database_ == nullptr) DW_RETURN_IF_ERROR(OpenFile());
  Stored stored;
  DW_ASSIGN_OR_RETURN(stored.snapshot, LoadSnapshot());
  dirty_ = Dirty();
  int64_t position = stored.snapshot.event_count();
  DW_ASSIGN_OR_RETURN(Rows rows, database_->Query("SELECT position, event FROM log ORDER BY 1"));
  while (rows.Next()) {
    if (rows.Int64(0) != ++position) {
      return absl::DataLossError(absl::StrCat(options_.path, ": event ", rows.Int64(0),
                                              " follows event ", position - 1, ", want ",
                                              position));
    }
    Event& event = stored.events.emplace_back();
    DW_RETURN_IF_ERROR(Parse(rows.Text(1), "an event", &event));
    dirty_.Add(event);
  }
  DW_RETURN_IF_ERROR(rows.status());
  log_size_ = static_cast<int64_t>(stored.events.size());
  return stored;
}

// ---- Appending ----

absl::Status SqliteEventStore::Append(int64_t first_position, absl::Span<const Event> events,
                                      bool* is_known) {
  *is_known = true;
  if (database_ == nullptr) return Closed();
  absl::Status status = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
    for (size_t i = 0; i < events.size(); ++i) {
      DW_RETURN_IF_ERROR(Insert(first_position + static_cast<int64_t>(i), events[i]));
    }
    absl::Status committed = transaction.Commit();
    *is_known = !absl::IsInternal(committed);
    return committed;
  }();
  if (!status.ok()) {
    database_.reset();
    return status;
  }
  for (const Event& event : events) dirty_.Add(event);
  log_size_ += static_cast<int64_t>(events.size());
  return absl::OkStatus();
}

absl::Status SqliteEventStore::Insert(int64_t position, const Event& event) {
  const std::string bytes = event.SerializeAsString();
  DW_RETURN_IF_ERROR(database_->Run("INSERT INTO log (position, event) VALUES (?, ?)",
                                    {position, SqlBlob{bytes}}));
  if (event.metrics_recorded().points_size() > 0) {
    const MetricsRecorded& batch = event.metrics_recorded();
    DW_RETURN_IF_ERROR(InsertMetrics(event.job(), batch.first_index(), batch));
  }
  if (event.has_job_archived()) return SqliteJobArchive(*database_).Add(event);
  if (event.has_job_deleted()) return DeleteJob(event);
  if (!event.has_shown()) return absl::OkStatus();
  DW_RETURN_IF_ERROR(InsertShown(event.job(), event.shown()));
  // A final job has no later event, so this happens once.
  return scheduler::IsFinal(event.shown().state()) ? PackMetrics(event.job()) : absl::OkStatus();
}

absl::Status SqliteEventStore::InsertShown(const std::string& job, const v1::JobEvent& shown) {
  const std::string bytes = shown.SerializeAsString();
  DW_RETURN_IF_ERROR(database_->Run("INSERT INTO job_events (job, seq, event) VALUES (?, ?, ?)",
                                    {job, shown.seq(), SqlBlob{bytes}}));
  if (shown.seq() <= options_.events_kept || shown.seq() % kPruneEvery != 0) {
    return absl::OkStatus();
  }
  return database_->Run("DELETE FROM job_events WHERE job = ? AND seq <= ?",
                        {job, shown.seq() - options_.events_kept});
}

absl::Status SqliteEventStore::DeleteJob(const Event& deleted) {
  DW_RETURN_IF_ERROR(SqliteJobArchive(*database_).Delete(deleted));
  DW_RETURN_IF_ERROR(database_->Run("DELETE FROM job_events WHERE job = ?", {deleted.job()}));
  return database_->Run("DELETE FROM metrics WHERE job = ?", {deleted.job()});
}

absl::Status SqliteEventStore::InsertMetrics(const std::string& job, int64_t first_index,
                                             const MetricsRecorded& batch) {
  const std::string bytes = batch.SerializeAsString();
  return database_->Run(
      "INSERT INTO metrics (job, first_index, first_step, points) VALUES (?, ?, ?, ?)",
      {job, first_index, batch.points(0).step(), SqlBlob{bytes}});
}

absl::Status SqliteEventStore::PackMetrics(const std::string& job) {
  MetricsRecorded all;
  {
    DW_ASSIGN_OR_RETURN(
        Rows rows,
        database_->Query("SELECT points FROM metrics WHERE job = ? ORDER BY first_index", {job}));
    while (rows.Next()) {
      MetricsRecorded batch;
      DW_RETURN_IF_ERROR(Parse(rows.Text(0), "metrics", &batch));
      all.mutable_points()->MergeFrom(batch.points());
    }
    DW_RETURN_IF_ERROR(rows.status());
  }
  DW_RETURN_IF_ERROR(database_->Run("DELETE FROM metrics WHERE job = ?", {job}));
  for (int begin = 0; begin < all.points_size();) {
    const int end =
        static_cast<int>(std::min<int64_t>(all.points_size(), begin + options_.packed_points_max));
    MetricsRecorded packed;
    for (int i = begin; i < end; ++i) packed.add_points()->Swap(all.mutable_points(i));
    DW_RETURN_IF_ERROR(InsertMetrics(job, begin + 1, packed));
    begin = end;
  }
  return absl::OkStatus();
}

// ---- The snapshot ----

absl::Status SqliteEventStore::WriteSnapshot(const State& state) {
  if (database_ == nullptr) return Closed();
  const absl::Status status = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
    DW_RETURN_IF_ERROR(UpdateState(state));
    return transaction.Commit();
  }();
  if (status.ok()) {
    dirty_ = Dirty();
    log_size_ = 0;
  } else if (!absl::IsResourceExhausted(status) || database_->in_transaction()) {
    database_.reset();
  }
  return status;
}

absl::Status SqliteEventStore::UpdateState(const State& state) {
  for (const std::string& name : dirty_.jobs) {
    const JobRecord* record = state.FindJob(name);
    if (record == nullptr) {  // Archived.
      DW_RETURN_IF_ERROR(database_->Run("DELETE FROM jobs WHERE name = ?", {name}));
      continue;
    }
    const std::string bytes = record->SerializeAsString();
    DW_RETURN_IF_ERROR(database_->Run("INSERT OR REPLACE INTO jobs (name, record) VALUES (?, ?)",
                                      {name, SqlBlob{bytes}}));
  }
  for (const scheduler::StoredRequest& request : dirty_.requests) {
    const std::string bytes = request.SerializeAsString();
    DW_RETURN_IF_ERROR(
        database_->Run("INSERT INTO requests (tenant, rpc, request_id, stored) VALUES (?, ?, ?, ?)",
                       {request.tenant(), request.rpc(), request.request_id(), SqlBlob{bytes}}));
  }
  for (const scheduler::StoredRequest& request : dirty_.archived_requests) {
    DW_RETURN_IF_ERROR(
        database_->Run("DELETE FROM requests WHERE tenant = ? AND rpc = ? AND request_id = ?",
                       {request.tenant(), request.rpc(), request.request_id()}));
  }
  DW_RETURN_IF_ERROR(SqliteJobArchive(*database_).DropRequests(state.last_time() - kRequestsKept));
  for (const std::string& name : dirty_.workers) {
    DW_RETURN_IF_ERROR(
        database_->Run("INSERT OR REPLACE INTO workers (name, incarnation) VALUES (?, ?)",
                       {name, state.WorkerIncarnation(name)}));
  }
  DW_RETURN_IF_ERROR(UpdateShares(state));
  DW_RETURN_IF_ERROR(database_->Run(
      "INSERT OR REPLACE INTO snapshot (id, term, last_time_ns, event_count) VALUES (1, ?, ?, ?)",
      {state.term(), absl::ToUnixNanos(state.last_time()), state.event_count()}));
  return database_->Run("DELETE FROM log WHERE position <= ?", {state.event_count()});
}

absl::Status SqliteEventStore::UpdateShares(const State& state) {
  for (const std::string& tenant : dirty_.tenants) {
    const std::string bytes = state.usage().Of(tenant).SerializeAsString();
    DW_RETURN_IF_ERROR(database_->Run("INSERT OR REPLACE INTO usage (tenant, used) VALUES (?, ?)",
                                      {tenant, SqlBlob{bytes}}));
  }
  for (const std::string& tenant : dirty_.quotas) {
    const std::string bytes = state.quotas().at(tenant).SerializeAsString();
    DW_RETURN_IF_ERROR(database_->Run("INSERT OR REPLACE INTO quotas (tenant, quota) VALUES (?, ?)",
                                      {tenant, SqlBlob{bytes}}));
  }
  for (const std::string& worker : dirty_.worker_modes) {
    DW_RETURN_IF_ERROR(database_->Run("DELETE FROM worker_modes WHERE worker = ?", {worker}));
    const auto set = state.worker_modes().find(worker);
    if (set == state.worker_modes().end()) continue;
    DW_RETURN_IF_ERROR(database_->Run("INSERT INTO worker_modes (worker, mode) VALUES (?, ?)",
                                      {worker, static_cast<int64_t>(set->second.mode())}));
    if (!set->second.has_until()) continue;
    DW_RETURN_IF_ERROR(
        database_->Run("UPDATE worker_modes SET until_ns = ? WHERE worker = ?",
                       {absl::ToUnixNanos(scheduler::FromProto(set->second.until())), worker}));
  }
  return UpdateTroubles(state);
}

absl::Status SqliteEventStore::UpdateTroubles(const State& state) {
  if (!dirty_.troubles) return absl::OkStatus();
  DW_RETURN_IF_ERROR(database_->Run("DELETE FROM worker_troubles", {}));
  for (const auto& [worker, trouble] : state.troubles().all()) {
    const std::string bytes = trouble.SerializeAsString();
    DW_RETURN_IF_ERROR(database_->Run("INSERT INTO worker_troubles (worker, trouble) VALUES (?, ?)",
                                      {worker, SqlBlob{bytes}}));
  }
  return absl::OkStatus();
}

// ---- What people read ----

absl::StatusOr<std::vector<v1::JobEvent>> SqliteEventStore::ReadEvents(const std::string& job,
                                                                       int64_t since_seq,
                                                                       const ReadLimits& limits) {
  if (database_ == nullptr) return Closed();
  std::vector<v1::JobEvent> events;
  DW_ASSIGN_OR_RETURN(
      Rows rows, database_->Query(
                     "SELECT event FROM job_events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?",
                     {job, since_seq, limits.count_max}));
  int64_t bytes = 0;
  while (bytes < limits.bytes_max && rows.Next()) {
    const std::string event = rows.Text(0);
    bytes += static_cast<int64_t>(event.size());
    DW_RETURN_IF_ERROR(Parse(event, "a job's event", &events.emplace_back()));
  }
  DW_RETURN_IF_ERROR(rows.status());
  return events;
}

absl::StatusOr<int64_t> SqliteEventStore::OldestEvent(const std::string& job) {
  if (database_ == nullptr) return Closed();
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT min(seq) FROM job_events WHERE job = ?", {job}));
  const int64_t oldest = rows.Next() ? rows.Int64(0) : 0;
  DW_RETURN_IF_ERROR(rows.status());
  return oldest;
}

absl::StatusOr<std::vector<v1::MetricPoint>> SqliteEventStore::ReadMetrics(
    const std::string& job, int64_t since_index, const ReadLimits& limits) {
  if (database_ == nullptr) return Closed();
  std::vector<v1::MetricPoint> points;
  // Begins with the row that holds the first point wanted.
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT first_index, points FROM metrics WHERE job = ?1 AND first_index >= "
                       "coalesce((SELECT max(first_index) FROM metrics WHERE job = ?1 AND "
                       "first_index <= ?2), 0) ORDER BY first_index",
                       {job, since_index + 1}));
  int64_t bytes = 0;
  while (static_cast<int64_t>(points.size()) < limits.count_max && bytes < limits.bytes_max &&
         rows.Next()) {
    MetricsRecorded batch;
    DW_RETURN_IF_ERROR(Parse(rows.Text(1), "metrics", &batch));
    int64_t index = rows.Int64(0);
    for (v1::MetricPoint& point : *batch.mutable_points()) {
      if (index++ <= since_index) continue;
      if (static_cast<int64_t>(points.size()) >= limits.count_max || bytes >= limits.bytes_max) {
        return points;
      }
      bytes += static_cast<int64_t>(point.ByteSizeLong());
      points.push_back(std::move(point));
    }
  }
  DW_RETURN_IF_ERROR(rows.status());
  return points;
}

absl::StatusOr<int64_t> SqliteEventStore::IndexBeforeStep(const std::string& job,
                                                          int64_t step_min) {
  if (database_ == nullptr) return Closed();
  // Steps grow with the index.
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT first_index, points FROM metrics WHERE job = ?1 AND first_index = "
                       "(SELECT max(first_index) FROM metrics WHERE job = ?1 AND first_step < ?2)",
                       {job, step_min}));
  if (!rows.Next()) {
    DW_RETURN_IF_ERROR(rows.status());
    return 0;
  }
  MetricsRecorded batch;
  DW_RETURN_IF_ERROR(Parse(rows.Text(1), "metrics", &batch));
  int64_t index = rows.Int64(0) - 1;
  for (const v1::MetricPoint& point : batch.points()) {
    if (point.step() >= step_min) break;
    ++index;
  }
  return index;
}

// ---- The archive ----

absl::StatusOr<std::optional<scheduler::ArchivedJob>> SqliteEventStore::FindArchived(
    const std::string& name) {
  if (database_ == nullptr) return Closed();
  return SqliteJobArchive(*database_).Find(name);
}

absl::StatusOr<std::optional<scheduler::StoredRequest>> SqliteEventStore::FindArchivedRequest(
    absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) {
  if (database_ == nullptr) return Closed();
  return SqliteJobArchive(*database_).FindRequest(tenant, rpc, request_id);
}

absl::StatusOr<std::vector<std::shared_ptr<const JobRecord>>> SqliteEventStore::ListArchived(
    const ArchiveQuery& query) {
  if (database_ == nullptr) return Closed();
  return SqliteJobArchive(*database_).List(query);
}

absl::StatusOr<std::vector<std::string>> SqliteEventStore::EndedBefore(absl::Time time,
                                                                       int64_t count_max) {
  if (database_ == nullptr) return Closed();
  return SqliteJobArchive(*database_).EndedBefore(time, count_max);
}

}  // namespace deltaworks::services
