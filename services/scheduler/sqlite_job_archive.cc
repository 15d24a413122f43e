#include "services/scheduler/sqlite_job_archive.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "services/scheduler/job_filter.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::ArchivedJob;
using ::deltaworks::scheduler::Event;
using ::deltaworks::scheduler::JobRecord;
using ::deltaworks::scheduler::StoredRequest;

// Deleted jobs whose requests one call drops.
constexpr int64_t kDropMax = 256;

constexpr const char* kNewestFirst =
    "SELECT record FROM archived_terms AS t JOIN archived_jobs AS j ON j.name = t.name "
    "WHERE tenant = ? AND field = ? AND value = ? AND (created_ns, t.name) < (?, ?) "
    "ORDER BY created_ns DESC, t.name DESC LIMIT ?";
constexpr const char* kOldestFirst =
    "SELECT record FROM archived_terms AS t JOIN archived_jobs AS j ON j.name = t.name "
    "WHERE tenant = ? AND field = ? AND value = ? AND (created_ns, t.name) > (?, ?) "
    "ORDER BY created_ns, t.name LIMIT ?";

absl::StatusOr<std::shared_ptr<const JobRecord>> ParseRecord(const std::string& bytes) {
  auto record = std::make_shared<JobRecord>();
  if (record->ParseFromString(bytes)) return record;
  return absl::DataLossError(
      absl::StrCat("an archived job of ", bytes.size(), " bytes in the database does not parse"));
}

}  // namespace

const char* const SqliteJobArchive::kStep = R"sql(
  CREATE TABLE archived_jobs (
    name TEXT PRIMARY KEY,
    ended_ns INTEGER,
    deleted_ns INTEGER,
    record BLOB
  );
  CREATE INDEX archived_jobs_by_end ON archived_jobs (ended_ns) WHERE ended_ns IS NOT NULL;
  CREATE INDEX archived_jobs_deleted ON archived_jobs (deleted_ns) WHERE deleted_ns IS NOT NULL;
  CREATE TABLE archived_terms (
    tenant TEXT NOT NULL,
    field TEXT NOT NULL,
    value TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (tenant, field, value, created_ns, name)
  ) WITHOUT ROWID;
  CREATE TABLE archived_requests (
    tenant TEXT NOT NULL,
    rpc TEXT NOT NULL,
    request_id TEXT NOT NULL,
    job TEXT NOT NULL,
    stored BLOB NOT NULL,
    PRIMARY KEY (tenant, rpc, request_id)
  ) WITHOUT ROWID;
  CREATE INDEX archived_requests_by_job ON archived_requests (job);
)sql";

absl::Status SqliteJobArchive::Add(const Event& archived) {
  const JobRecord& record = archived.job_archived().record();
  const std::string& name = archived.job();
  const std::string bytes = record.SerializeAsString();
  DW_RETURN_IF_ERROR(database_.Run(
      "INSERT INTO archived_jobs (name, ended_ns, record) VALUES (?, ?, ?)",
      {name, absl::ToUnixNanos(scheduler::FromProto(record.job().end_time())), SqlBlob{bytes}}));
  const int64_t created_ns = JobKey::Of(record).created_ns;
  for (const JobTerm& term : JobTerms(record.job())) {
    DW_RETURN_IF_ERROR(
        database_.Run("INSERT INTO archived_terms (tenant, field, value, created_ns, name) "
                      "VALUES (?, ?, ?, ?, ?)",
                      {scheduler::TenantOf(name), term.field, term.value, created_ns, name}));
  }
  for (const StoredRequest& request : archived.job_archived().requests()) {
    DW_RETURN_IF_ERROR(AddRequest(request));
  }
  return absl::OkStatus();
}

absl::Status SqliteJobArchive::AddRequest(const StoredRequest& request) {
  const std::string bytes = request.SerializeAsString();
  return database_.Run(
      "INSERT INTO archived_requests (tenant, rpc, request_id, job, stored) "
      "VALUES (?, ?, ?, ?, ?)",
      {request.tenant(), request.rpc(), request.request_id(), request.job(), SqlBlob{bytes}});
}

absl::Status SqliteJobArchive::Delete(const Event& deleted) {
  const std::string& name = deleted.job();
  DW_ASSIGN_OR_RETURN(const std::optional<ArchivedJob> job, Find(name));
  if (!job.has_value() || job->record == nullptr) {
    return absl::DataLossError(absl::StrCat(name, " is deleted and was not archived"));
  }
  const int64_t created_ns = JobKey::Of(*job->record).created_ns;
  for (const JobTerm& term : JobTerms(job->record->job())) {
    DW_RETURN_IF_ERROR(
        database_.Run("DELETE FROM archived_terms WHERE tenant = ? AND field = ? AND value = ? AND "
                      "created_ns = ? AND name = ?",
                      {scheduler::TenantOf(name), term.field, term.value, created_ns, name}));
  }
  if (deleted.has_request()) DW_RETURN_IF_ERROR(AddRequest(deleted.request()));
  return database_.Run(
      "UPDATE archived_jobs SET ended_ns = NULL, record = NULL, deleted_ns = ? WHERE name = ?",
      {absl::ToUnixNanos(scheduler::FromProto(deleted.time())), name});
}

absl::Status SqliteJobArchive::DropRequests(absl::Time time) {
  std::vector<std::string> names;
  {
    DW_ASSIGN_OR_RETURN(
        Rows rows, database_.Query("SELECT name FROM archived_jobs WHERE deleted_ns < ? LIMIT ?",
                                   {absl::ToUnixNanos(time), kDropMax}));
    while (rows.Next()) names.push_back(rows.Text(0));
    DW_RETURN_IF_ERROR(rows.status());
  }
  for (const std::string& name : names) {
    DW_RETURN_IF_ERROR(database_.Run("DELETE FROM archived_requests WHERE job = ?", {name}));
    DW_RETURN_IF_ERROR(
        database_.Run("UPDATE archived_jobs SET deleted_ns = NULL WHERE name = ?", {name}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<ArchivedJob>> SqliteJobArchive::Find(const std::string& name) {
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_.Query("SELECT record FROM archived_jobs WHERE name = ?", {name}));
  if (!rows.Next()) {
    DW_RETURN_IF_ERROR(rows.status());
    return std::nullopt;
  }
  ArchivedJob job;
  if (rows.IsNull(0)) return job;
  DW_ASSIGN_OR_RETURN(job.record, ParseRecord(rows.Text(0)));
  return job;
}

absl::StatusOr<std::optional<StoredRequest>> SqliteJobArchive::FindRequest(
    absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) {
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_.Query("SELECT stored FROM archived_requests WHERE tenant = ? AND "
                                      "rpc = ? AND request_id = ?",
                                      {tenant, rpc, request_id}));
  if (!rows.Next()) {
    DW_RETURN_IF_ERROR(rows.status());
    return std::nullopt;
  }
  StoredRequest request;
  if (!request.ParseFromString(rows.Text(0))) {
    return absl::DataLossError(
        absl::StrCat("the archived request ", request_id, " of ", rpc, " does not parse"));
  }
  return request;
}

absl::StatusOr<std::vector<std::shared_ptr<const JobRecord>>> SqliteJobArchive::List(
    const ArchiveQuery& query) {
  using Limits = std::numeric_limits<int64_t>;
  const JobKey after = query.after.value_or(
      JobKey{.created_ns = query.newest_first ? Limits::max() : Limits::min()});
  DW_ASSIGN_OR_RETURN(Rows rows, database_.Query(query.newest_first ? kNewestFirst : kOldestFirst,
                                                 {query.tenant, query.term.field, query.term.value,
                                                  after.created_ns, after.name, query.count_max}));
  std::vector<std::shared_ptr<const JobRecord>> records;
  while (rows.Next()) {
    DW_ASSIGN_OR_RETURN(records.emplace_back(), ParseRecord(rows.Text(0)));
  }
  DW_RETURN_IF_ERROR(rows.status());
  return records;
}

absl::StatusOr<std::vector<std::string>> SqliteJobArchive::EndedBefore(absl::Time time,
                                                                       int64_t count_max) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_.Query("SELECT name FROM archived_jobs WHERE ended_ns < ? ORDER BY ended_ns LIMIT ?",
                      {absl::ToUnixNanos(time), count_max}));
  std::vector<std::string> names;
  while (rows.Next()) names.push_back(rows.Text(0));
  DW_RETURN_IF_ERROR(rows.status());
  return names;
}

}  // namespace deltaworks::services
