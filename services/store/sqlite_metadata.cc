// Requests, resources, reports and the schema. Blobs and pins: sqlite_metadata_blobs.cc;
// collection: sqlite_metadata_collection.cc.

#include "services/store/sqlite_metadata.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/request_log.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// Object states: 1 PENDING, 2 PRESENT, 3 DELETING. Times are microseconds since 1970.
constexpr char kSchema[] = R"sql(
  CREATE TABLE objects (
    digest TEXT NOT NULL,
    generation INTEGER NOT NULL,
    size INTEGER NOT NULL,
    state INTEGER NOT NULL,
    create_time_us INTEGER NOT NULL,
    PRIMARY KEY (digest, generation)
  ) WITHOUT ROWID;
  CREATE UNIQUE INDEX objects_present ON objects (digest) WHERE state = 2;
  CREATE INDEX objects_by_state ON objects (state);

  CREATE TABLE manifest_members (
    manifest TEXT NOT NULL,
    member TEXT NOT NULL,
    PRIMARY KEY (manifest, member)
  ) WITHOUT ROWID;
  CREATE INDEX manifests_by_member ON manifest_members (member, manifest);

  CREATE TABLE holds (
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL,
    expire_time_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
  ) WITHOUT ROWID;
  CREATE INDEX holds_by_digest ON holds (digest, expire_time_us);
  CREATE INDEX holds_by_time ON holds (expire_time_us);

  CREATE TABLE pins (
    tenant TEXT NOT NULL,
    owner TEXT NOT NULL,
    digest TEXT NOT NULL,
    create_time_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, owner, digest)
  ) WITHOUT ROWID;
  CREATE INDEX pins_by_digest ON pins (digest, tenant, owner);

  CREATE TABLE uploads (
    name TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    expire_time_us INTEGER NOT NULL,
    UNIQUE (tenant, digest)
  ) WITHOUT ROWID;
  CREATE INDEX uploads_by_time ON uploads (expire_time_us);

  CREATE TABLE resources (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    message BLOB NOT NULL,
    detail BLOB NOT NULL,
    pending INTEGER NOT NULL,
    attempts INTEGER NOT NULL
  );
  CREATE INDEX resources_by_kind ON resources (tenant, kind, seq);
  CREATE INDEX resources_pending ON resources (seq) WHERE pending = 1;

  CREATE TABLE reports (
    key TEXT PRIMARY KEY,
    report BLOB NOT NULL,
    create_time_us INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX reports_by_time ON reports (create_time_us);
)sql";

// Finished uploads are remembered for a week; each new one counts those that are open.
constexpr char kOpenUploads[] = R"sql(
  CREATE INDEX uploads_open ON uploads (tenant) WHERE committed < size;
)sql";

constexpr const char* kMigrations[] = {kSchema, kRequestLogSchema, kOpenUploads};

// Columns: seq, name, message, detail, pending.
ResourceRow ReadResource(const Rows& rows) {
  ResourceRow row;
  row.seq = rows.Int64(0);
  row.name = rows.Text(1);
  row.message = rows.Text(2);
  row.detail = rows.Text(3);
  row.pending = rows.Int64(4) != 0;
  return row;
}

absl::StatusOr<std::vector<ResourceRow>> ReadResources(absl::StatusOr<Rows> rows) {
  DW_RETURN_IF_ERROR(rows.status());
  std::vector<ResourceRow> result;
  while (rows->Next()) result.push_back(ReadResource(*rows));
  DW_RETURN_IF_ERROR(rows->status());
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteStoreMetadata>> SqliteStoreMetadata::Open(
    const std::string& path, const Database::Options& options) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(path, options));
  DW_RETURN_IF_ERROR(database->Migrate(kMigrations));
  return std::unique_ptr<SqliteStoreMetadata>(new SqliteStoreMetadata(std::move(database)));
}

// ---- Requests ----

absl::StatusOr<std::optional<std::string>> SqliteStoreMetadata::FindRequest(
    absl::string_view tenant, absl::string_view rpc, const RequestMessage& request) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(const std::optional<RequestRecord> record,
                      services::FindRequest(*database_, tenant, rpc, request));
  if (!record.has_value()) return std::nullopt;
  return record->resource;
}

absl::Status SqliteStoreMetadata::RecordRequest(absl::string_view tenant, absl::string_view rpc,
                                                const RequestMessage& request,
                                                absl::string_view resource, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(services::RecordRequest(*database_, tenant, rpc, request, resource, now));
  if (!resource.empty() && TenantOf(resource).empty()) {
    DW_RETURN_IF_ERROR(MarkResourceGone(*database_, resource));
  }
  return transaction.Commit();
}

// ---- Datasets and base models ----

absl::Status SqliteStoreMetadata::InsertResource(absl::string_view tenant, absl::string_view kind,
                                                 absl::string_view rpc, const ResourceRow& row,
                                                 const std::vector<std::string>& pins,
                                                 const RequestMessage& request, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  absl::Status inserted = database_->Run(
      "INSERT INTO resources (tenant, kind, name, message, detail, pending, attempts) "
      "VALUES (?, ?, ?, ?, ?, ?, 0)",
      {tenant, kind, row.name, SqlBlob{row.message}, SqlBlob{row.detail}, row.pending});
  if (absl::IsAlreadyExists(inserted)) {
    return absl::AlreadyExistsError(absl::StrCat(row.name, " exists, want an id that is free"));
  }
  DW_RETURN_IF_ERROR(inserted);
  for (const std::string& digest : pins) {
    DW_RETURN_IF_ERROR(Pin(tenant, row.name, digest, now).status());
  }
  DW_RETURN_IF_ERROR(services::RecordRequest(*database_, tenant, rpc, request, row.name, now));
  return transaction.Commit();
}

absl::Status SqliteStoreMetadata::UpdateResource(absl::string_view tenant, const ResourceRow& row,
                                                 const std::vector<std::string>& pins,
                                                 absl::string_view rpc,
                                                 const RequestMessage* request, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(database_->Run(
      "UPDATE resources SET message = ?, detail = ?, pending = ?, attempts = 0 WHERE name = ?",
      {SqlBlob{row.message}, SqlBlob{row.detail}, row.pending, row.name}));
  if (database_->changes() == 0) return NoSuchResource(row.name);
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> before, PinsOf(tenant, row.name));
  for (const std::string& digest : pins) {
    DW_RETURN_IF_ERROR(Pin(tenant, row.name, digest, now).status());
  }
  for (const std::string& digest : before) {
    if (std::find(pins.begin(), pins.end(), digest) != pins.end()) continue;
    DW_RETURN_IF_ERROR(
        database_->Run("DELETE FROM pins WHERE tenant = ? AND owner = ? AND digest = ?",
                       {tenant, row.name, digest}));
  }
  if (request != nullptr) {
    DW_RETURN_IF_ERROR(services::RecordRequest(*database_, tenant, rpc, *request, row.name, now));
  }
  return transaction.Commit();
}

absl::StatusOr<ResourceRow> SqliteStoreMetadata::GetResource(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT seq, name, message, detail, pending FROM resources WHERE name = ?",
                       {name}));
  if (rows.Next()) return ReadResource(rows);
  DW_RETURN_IF_ERROR(rows.status());
  return NoSuchResource(name);
}

absl::StatusOr<std::vector<ResourceRow>> SqliteStoreMetadata::ListResources(
    absl::string_view tenant, absl::string_view kind, int64_t before_seq, int64_t max) {
  MutexLock lock(&mutex_);
  return ReadResources(
      database_->Query("SELECT seq, name, message, detail, pending FROM resources "
                       "WHERE tenant = ? AND kind = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
                       {tenant, kind, before_seq == 0 ? INT64_MAX : before_seq, max}));
}

absl::StatusOr<std::vector<ResourceRow>> SqliteStoreMetadata::PendingResources(int64_t max) {
  MutexLock lock(&mutex_);
  return ReadResources(
      database_->Query("SELECT seq, name, message, detail, pending FROM resources "
                       "WHERE pending = 1 ORDER BY seq LIMIT ?",
                       {max}));
}

absl::StatusOr<int64_t> SqliteStoreMetadata::CountPending() {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT COUNT(*) FROM resources WHERE pending = 1"));
  const int64_t count = rows.Next() ? rows.Int64(0) : 0;
  DW_RETURN_IF_ERROR(rows.status());
  return count;
}

absl::StatusOr<int64_t> SqliteStoreMetadata::CountAttempt(const std::string& name, int64_t change) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(database_->Run("UPDATE resources SET attempts = attempts + ? WHERE name = ?",
                                    {change, name}));
  if (database_->changes() == 0) return NoSuchResource(name);
  int64_t attempts = 0;
  {
    DW_ASSIGN_OR_RETURN(Rows rows,
                        database_->Query("SELECT attempts FROM resources WHERE name = ?", {name}));
    if (rows.Next()) attempts = rows.Int64(0);
    DW_RETURN_IF_ERROR(rows.status());
  }
  DW_RETURN_IF_ERROR(transaction.Commit());
  return attempts;
}

absl::StatusOr<std::vector<std::string>> SqliteStoreMetadata::PinsOf(absl::string_view tenant,
                                                                     const std::string& owner) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT digest FROM pins WHERE tenant = ? AND owner = ?", {tenant, owner}));
  std::vector<std::string> digests;
  while (rows.Next()) digests.push_back(rows.Text(0));
  DW_RETURN_IF_ERROR(rows.status());
  return digests;
}

// ---- Reports ----

absl::StatusOr<std::optional<std::string>> SqliteStoreMetadata::FindReport(absl::string_view key) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT report FROM reports WHERE key = ?", {key}));
  if (rows.Next()) return rows.Text(0);
  DW_RETURN_IF_ERROR(rows.status());
  return std::nullopt;
}

absl::Status SqliteStoreMetadata::PutReport(absl::string_view key, absl::string_view report,
                                            int64_t kept_max, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(database_->Run(
      "INSERT OR REPLACE INTO reports (key, report, create_time_us) VALUES (?, ?, ?)",
      {key, SqlBlob{report}, absl::ToUnixMicros(now)}));
  DW_RETURN_IF_ERROR(
      database_->Run("DELETE FROM reports WHERE key IN (SELECT key FROM reports "
                     "ORDER BY create_time_us DESC, key LIMIT -1 OFFSET ?)",
                     {kept_max}));
  return transaction.Commit();
}

}  // namespace deltaworks::services
