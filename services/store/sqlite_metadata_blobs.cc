// Uploads, objects, references and pins of SqliteStoreMetadata.

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/base/caller.h"
#include "services/base/random_id.h"
#include "services/base/request_log.h"
#include "services/base/resource_names.h"
#include "services/store/sqlite_metadata.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr size_t kMissingListed = 100;

// Columns: name, tenant, digest, size, committed, expire_time_us.
UploadRow ReadUpload(const Rows& rows) {
  UploadRow row;
  row.name = rows.Text(0);
  row.tenant = rows.Text(1);
  row.digest = rows.Text(2);
  row.size = rows.Int64(3);
  row.committed = rows.Int64(4);
  row.expire_time = absl::FromUnixMicros(rows.Int64(5));
  return row;
}

// What identifies a pin in the request log.
std::string PinResource(const std::string& owner, const std::string& digest) {
  return absl::StrCat(owner, "#", digest);
}

}  // namespace

// ---- Uploads ----

absl::StatusOr<UploadRow> SqliteStoreMetadata::BeginUpload(absl::string_view tenant,
                                                           absl::string_view digest, int64_t size,
                                                           int64_t open_max,
                                                           absl::Duration lifetime,
                                                           absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  std::optional<UploadRow> before;
  {
    DW_ASSIGN_OR_RETURN(
        Rows rows, database_->Query("SELECT name, tenant, digest, size, committed, expire_time_us "
                                    "FROM uploads WHERE tenant = ? AND digest = ?",
                                    {tenant, digest}));
    if (rows.Next()) before = ReadUpload(rows);
    DW_RETURN_IF_ERROR(rows.status());
  }
  if (before.has_value()) {
    if (before->size != size) {
      return absl::InvalidArgumentError(absl::StrCat("size_bytes is ", size, ", want ",
                                                     before->size, ": an upload of ", digest,
                                                     " with that size is open"));
    }
    before->expire_time = now + lifetime;
    DW_RETURN_IF_ERROR(database_->Run("UPDATE uploads SET expire_time_us = ? WHERE name = ?",
                                      {absl::ToUnixMicros(before->expire_time), before->name}));
    DW_RETURN_IF_ERROR(transaction.Commit());
    return *before;
  }
  {
    DW_ASSIGN_OR_RETURN(
        Rows rows,
        database_->Query("SELECT COUNT(*) FROM uploads WHERE tenant = ? AND committed < size",
                         {tenant}));
    if (rows.Next() && rows.Int64(0) >= open_max) {
      return absl::ResourceExhaustedError(absl::StrCat("the tenant has ", rows.Int64(0),
                                                       " open uploads, want fewer than ", open_max,
                                                       " (uploads_open_max)"));
    }
    DW_RETURN_IF_ERROR(rows.status());
  }
  UploadRow row;
  row.name = TenantResourceName(tenant, "uploads", RandomResourceId("up-"));
  row.tenant = std::string(tenant);
  row.digest = std::string(digest);
  row.size = size;
  row.expire_time = now + lifetime;
  DW_RETURN_IF_ERROR(
      database_->Run("INSERT INTO uploads (name, tenant, digest, size, committed, expire_time_us) "
                     "VALUES (?, ?, ?, ?, 0, ?)",
                     {row.name, tenant, digest, size, absl::ToUnixMicros(row.expire_time)}));
  DW_RETURN_IF_ERROR(transaction.Commit());
  return row;
}

absl::StatusOr<UploadRow> SqliteStoreMetadata::FindUpload(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(
      Rows rows, database_->Query("SELECT name, tenant, digest, size, committed, expire_time_us "
                                  "FROM uploads WHERE name = ?",
                                  {name}));
  if (rows.Next()) return ReadUpload(rows);
  DW_RETURN_IF_ERROR(rows.status());
  return NoSuchResource(name);
}

absl::Status SqliteStoreMetadata::CommitUpload(const std::string& name, int64_t committed,
                                               absl::Duration lifetime, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(
      database_->Run("UPDATE uploads SET committed = ?, expire_time_us = ? WHERE name = ?",
                     {committed, absl::ToUnixMicros(now + lifetime), name}));
  return database_->changes() == 0 ? NoSuchResource(name) : absl::OkStatus();
}

absl::Status SqliteStoreMetadata::RestartUpload(const std::string& name) {
  MutexLock lock(&mutex_);
  return database_->Run("UPDATE uploads SET committed = 0 WHERE name = ?", {name});
}

absl::Status SqliteStoreMetadata::DropUpload(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(database_->Run("DELETE FROM uploads WHERE name = ?", {name}));
  DW_RETURN_IF_ERROR(MarkResourceGone(*database_, name));
  return transaction.Commit();
}

absl::StatusOr<bool> SqliteStoreMetadata::DropExpiredUpload(const std::string& name,
                                                            absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_RETURN_IF_ERROR(database_->Run("DELETE FROM uploads WHERE name = ? AND expire_time_us <= ?",
                                    {name, absl::ToUnixMicros(now)}));
  if (database_->changes() == 0) return false;
  DW_RETURN_IF_ERROR(MarkResourceGone(*database_, name));
  DW_RETURN_IF_ERROR(transaction.Commit());
  return true;
}

absl::StatusOr<std::vector<UploadRow>> SqliteStoreMetadata::ExpiredUploads(absl::Time now,
                                                                           int64_t max) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(
      Rows rows, database_->Query("SELECT name, tenant, digest, size, committed, expire_time_us "
                                  "FROM uploads WHERE expire_time_us <= ? LIMIT ?",
                                  {absl::ToUnixMicros(now), max}));
  std::vector<UploadRow> uploads;
  while (rows.Next()) uploads.push_back(ReadUpload(rows));
  DW_RETURN_IF_ERROR(rows.status());
  return uploads;
}

absl::StatusOr<std::vector<std::string>> SqliteStoreMetadata::UploadNames() {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Rows rows, database_->Query("SELECT name FROM uploads"));
  std::vector<std::string> names;
  while (rows.Next()) names.push_back(rows.Text(0));
  DW_RETURN_IF_ERROR(rows.status());
  return names;
}

// ---- Objects ----

absl::StatusOr<bool> SqliteStoreMetadata::IsPresent(absl::string_view digest) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT 1 FROM objects WHERE digest = ? AND state = 2", {digest}));
  const bool present = rows.Next();
  DW_RETURN_IF_ERROR(rows.status());
  return present;
}

absl::StatusOr<std::optional<ObjectKey>> SqliteStoreMetadata::AllocateObject(
    absl::string_view digest, int64_t size, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_ASSIGN_OR_RETURN(const bool present, IsPresent(digest));
  if (present) return std::nullopt;
  ObjectKey key{std::string(digest), 1};
  {
    DW_ASSIGN_OR_RETURN(
        Rows rows,
        database_->Query("SELECT MAX(generation) FROM objects WHERE digest = ?", {digest}));
    if (rows.Next()) key.generation = rows.Int64(0) + 1;
    DW_RETURN_IF_ERROR(rows.status());
  }
  DW_RETURN_IF_ERROR(
      database_->Run("INSERT INTO objects (digest, generation, size, state, create_time_us) "
                     "VALUES (?, ?, ?, 1, ?)",
                     {key.digest, key.generation, size, absl::ToUnixMicros(now)}));
  DW_RETURN_IF_ERROR(transaction.Commit());
  return key;
}

absl::Status SqliteStoreMetadata::PublishObject(const ObjectKey& key,
                                                const std::vector<std::string>& members,
                                                absl::string_view tenant, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_ASSIGN_OR_RETURN(const bool present, IsPresent(key.digest));
  DW_RETURN_IF_ERROR(database_->Run(
      "UPDATE objects SET state = ? WHERE digest = ? AND generation = ? AND state = 1",
      {present ? 3 : 2, key.digest, key.generation}));
  if (database_->changes() != 1) {
    return absl::InternalError(
        absl::StrCat("object ", key.digest, ".", key.generation, " is not PENDING"));
  }
  for (const std::string& member : members) {
    DW_RETURN_IF_ERROR(
        database_->Run("INSERT OR IGNORE INTO manifest_members (manifest, member) VALUES (?, ?)",
                       {key.digest, member}));
  }
  DW_RETURN_IF_ERROR(Hold(tenant, key.digest, now));
  return transaction.Commit();
}

absl::Status SqliteStoreMetadata::AbandonObject(const ObjectKey& key) {
  MutexLock lock(&mutex_);
  return database_->Run(
      "UPDATE objects SET state = 3 WHERE digest = ? AND generation = ? AND state = 1",
      {key.digest, key.generation});
}

absl::Status SqliteStoreMetadata::Hold(absl::string_view tenant, absl::string_view digest,
                                       absl::Time now) {
  return database_->Run(
      "INSERT OR REPLACE INTO holds (tenant, digest, expire_time_us) VALUES (?, ?, ?)",
      {tenant, digest, absl::ToUnixMicros(now + kHoldDuration)});
}

absl::Status SqliteStoreMetadata::HoldBlob(absl::string_view tenant, absl::string_view digest,
                                           absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_ASSIGN_OR_RETURN(const bool present, IsPresent(digest));
  if (!present) return NoSuchResource(digest);
  DW_RETURN_IF_ERROR(Hold(tenant, digest, now));
  return transaction.Commit();
}

absl::StatusOr<bool> SqliteStoreMetadata::IsReferenced(absl::string_view tenant,
                                                       absl::string_view digest, absl::Time now) {
  // CROSS JOIN: from the manifests that name it, of which there are few, to their pins. SQLite
  // would begin with all pins of the tenant.
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query(
          "SELECT 1 FROM holds WHERE tenant = ?1 AND digest = ?2 AND expire_time_us > ?3 "
          "UNION ALL SELECT 1 FROM pins WHERE tenant = ?1 AND digest = ?2 "
          "UNION ALL SELECT 1 FROM manifest_members m CROSS JOIN pins p ON p.digest = m.manifest "
          "WHERE m.member = ?2 AND p.tenant = ?1 LIMIT 1",
          {tenant, digest, absl::ToUnixMicros(now)}));
  const bool referenced = rows.Next();
  DW_RETURN_IF_ERROR(rows.status());
  return referenced;
}

absl::StatusOr<ObjectRow> SqliteStoreMetadata::FindBlob(absl::string_view tenant,
                                                        absl::string_view reference,
                                                        absl::string_view digest, absl::Time now) {
  MutexLock lock(&mutex_);
  bool referenced = false;
  if (reference.empty()) {
    DW_ASSIGN_OR_RETURN(referenced, IsReferenced(tenant, digest, now));
  } else {
    DW_ASSIGN_OR_RETURN(
        Rows rows,
        database_->Query(
            "SELECT 1 FROM pins WHERE tenant = ?1 AND owner = ?2 AND digest = ?3 "
            "UNION ALL SELECT 1 FROM manifest_members m JOIN pins p ON p.digest = m.manifest "
            "WHERE m.member = ?3 AND p.tenant = ?1 AND p.owner = ?2 LIMIT 1",
            {tenant, reference, digest}));
    referenced = rows.Next();
    DW_RETURN_IF_ERROR(rows.status());
  }
  if (!referenced) return NoSuchResource(digest);
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT generation, size FROM objects WHERE digest = ? AND state = 2",
                       {digest}));
  if (rows.Next()) return ObjectRow{{std::string(digest), rows.Int64(0)}, rows.Int64(1)};
  DW_RETURN_IF_ERROR(rows.status());
  return NoSuchResource(digest);
}

absl::StatusOr<std::vector<std::string>> SqliteStoreMetadata::FindMissing(
    absl::string_view tenant, const std::vector<std::string>& digests, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  std::vector<std::string> missing;
  for (const std::string& digest : digests) {
    DW_ASSIGN_OR_RETURN(const bool present, IsPresent(digest));
    DW_ASSIGN_OR_RETURN(const bool referenced, IsReferenced(tenant, digest, now));
    if (present && referenced) {
      DW_RETURN_IF_ERROR(Hold(tenant, digest, now));
    } else {
      missing.push_back(digest);
    }
  }
  DW_RETURN_IF_ERROR(transaction.Commit());
  return missing;
}

absl::Status SqliteStoreMetadata::MarkDeleting(const ObjectKey& key) {
  MutexLock lock(&mutex_);
  return database_->Run("UPDATE objects SET state = 3 WHERE digest = ? AND generation = ?",
                        {key.digest, key.generation});
}

// ---- Pins ----

absl::StatusOr<std::vector<std::string>> SqliteStoreMetadata::MembersOf(absl::string_view digest) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT member FROM manifest_members WHERE manifest = ?", {digest}));
  std::vector<std::string> members;
  while (rows.Next()) members.push_back(rows.Text(0));
  DW_RETURN_IF_ERROR(rows.status());
  return members;
}

absl::StatusOr<PinRow> SqliteStoreMetadata::Pin(absl::string_view tenant, const std::string& owner,
                                                const std::string& digest, absl::Time now) {
  DW_ASSIGN_OR_RETURN(std::vector<std::string> needed, MembersOf(digest));
  needed.insert(needed.begin(), digest);
  std::vector<std::string> missing;
  for (const std::string& blob : needed) {
    DW_ASSIGN_OR_RETURN(const bool present, IsPresent(blob));
    DW_ASSIGN_OR_RETURN(const bool referenced, IsReferenced(tenant, blob, now));
    if ((!present || !referenced) && missing.size() < kMissingListed) missing.push_back(blob);
  }
  if (!missing.empty()) {
    return absl::NotFoundError(absl::StrCat("missing blobs: ", absl::StrJoin(missing, ", ")));
  }
  DW_RETURN_IF_ERROR(database_->Run(
      "INSERT OR IGNORE INTO pins (tenant, owner, digest, create_time_us) VALUES (?, ?, ?, ?)",
      {tenant, owner, digest, absl::ToUnixMicros(now)}));
  DW_ASSIGN_OR_RETURN(Rows rows, database_->Query("SELECT create_time_us FROM pins "
                                                  "WHERE tenant = ? AND owner = ? AND digest = ?",
                                                  {tenant, owner, digest}));
  PinRow pin{owner, digest, now};
  if (rows.Next()) pin.create_time = absl::FromUnixMicros(rows.Int64(0));
  DW_RETURN_IF_ERROR(rows.status());
  return pin;
}

absl::StatusOr<PinRow> SqliteStoreMetadata::CreatePin(absl::string_view tenant,
                                                      const std::string& owner,
                                                      const std::string& digest,
                                                      const RequestMessage& request,
                                                      absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_ASSIGN_OR_RETURN(const std::optional<RequestRecord> before,
                      services::FindRequest(*database_, tenant, "CreatePin", request));
  DW_ASSIGN_OR_RETURN(PinRow pin, Pin(tenant, owner, digest, now));
  if (!before.has_value()) {
    DW_RETURN_IF_ERROR(services::RecordRequest(*database_, tenant, "CreatePin", request,
                                               PinResource(owner, digest), now));
  }
  DW_RETURN_IF_ERROR(transaction.Commit());
  return pin;
}

absl::Status SqliteStoreMetadata::DeletePin(absl::string_view tenant, const std::string& owner,
                                            const std::string& digest,
                                            const RequestMessage& request, absl::Time now) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_));
  DW_ASSIGN_OR_RETURN(const std::optional<RequestRecord> before,
                      services::FindRequest(*database_, tenant, "DeletePin", request));
  // Carried out before: a pin made since then is not this request's to drop.
  if (before.has_value()) return absl::OkStatus();
  DW_RETURN_IF_ERROR(services::RecordRequest(*database_, tenant, "DeletePin", request, "", now));
  DW_RETURN_IF_ERROR(database_->Run(
      "DELETE FROM pins WHERE tenant = ? AND owner = ? AND digest = ?", {tenant, owner, digest}));
  DW_RETURN_IF_ERROR(MarkResourceGone(*database_, PinResource(owner, digest)));
  return transaction.Commit();
}

absl::StatusOr<std::vector<PinRow>> SqliteStoreMetadata::ListPins(absl::string_view tenant,
                                                                  absl::string_view owner_prefix,
                                                                  const PinRow& after,
                                                                  int64_t max) {
  MutexLock lock(&mutex_);
  // substr instead of LIKE: a prefix may contain nothing but itself. The bounds let the index find
  // the owners of the prefix; names are ASCII below "~".
  DW_ASSIGN_OR_RETURN(
      Rows rows, database_->Query(
                     "SELECT owner, digest, create_time_us FROM pins "
                     "WHERE tenant = ?1 AND (owner, digest) > (?2, ?3) "
                     "AND owner >= ?4 AND owner < ?4 || '~' AND substr(owner, 1, length(?4)) = ?4 "
                     "ORDER BY owner, digest LIMIT ?5",
                     {tenant, after.owner, after.digest, owner_prefix, max}));
  std::vector<PinRow> pins;
  while (rows.Next()) {
    pins.push_back({rows.Text(0), rows.Text(1), absl::FromUnixMicros(rows.Int64(2))});
  }
  DW_RETURN_IF_ERROR(rows.status());
  return pins;
}

}  // namespace deltaworks::services
