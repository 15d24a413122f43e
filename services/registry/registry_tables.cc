#include "services/registry/registry_tables.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/request_log.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kSchema[] = R"sql(
  CREATE TABLE tenants (tenant TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;

  CREATE TABLE adapters (
    tenant TEXT NOT NULL,
    adapter TEXT NOT NULL,
    base_source_digest TEXT NOT NULL,  -- of the first READY version; empty: none yet
    version_count INTEGER NOT NULL,
    latest_version INTEGER NOT NULL,   -- the newest READY one, 0: none
    create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, adapter)
  ) WITHOUT ROWID;

  CREATE TABLE versions (
    tenant TEXT NOT NULL,
    adapter TEXT NOT NULL,
    number INTEGER NOT NULL,
    ready INTEGER NOT NULL,
    source TEXT NOT NULL UNIQUE,       -- the idempotency key
    manifest_digest TEXT NOT NULL,
    version BLOB NOT NULL,             -- deltaworks.v1.AdapterVersion
    PRIMARY KEY (tenant, adapter, number)
  );

  CREATE TABLE aliases (
    tenant TEXT NOT NULL,
    adapter TEXT NOT NULL,
    alias TEXT NOT NULL,
    number INTEGER NOT NULL,
    change INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, adapter, alias)
  ) WITHOUT ROWID;

  CREATE TABLE alias_changes (
    change INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    adapter TEXT NOT NULL,
    alias TEXT NOT NULL,
    time_us INTEGER NOT NULL,
    old_number INTEGER NOT NULL,
    new_number INTEGER NOT NULL,
    comment TEXT NOT NULL
  );
  CREATE INDEX alias_changes_by_alias ON alias_changes (tenant, adapter, alias, change);
)sql";

constexpr const char* kMigrations[] = {kRequestLogSchema, kSchema};

AdapterRow ReadAdapter(const Rows& rows) {
  return {rows.Text(0),
          rows.Text(1),
          rows.Int64(2),
          rows.Int64(3),
          absl::FromUnixMicros(rows.Int64(4)),
          absl::FromUnixMicros(rows.Int64(5))};
}

AliasRow ReadAlias(const Rows& rows) {
  return {rows.Text(0), rows.Int64(1), rows.Int64(2), absl::FromUnixMicros(rows.Int64(3))};
}

}  // namespace

std::string AdapterId::Name() const {
  return absl::StrCat("tenants/", tenant, "/adapters/", adapter);
}
std::string AdapterId::VersionName(int64_t number) const {
  return absl::StrCat(Name(), "/versions/", number);
}
std::string AdapterId::AliasName(absl::string_view alias) const {
  return absl::StrCat(Name(), "/aliases/", alias);
}

absl::StatusOr<std::unique_ptr<RegistryTables>> RegistryTables::Open(
    const std::string& path, const Database::Options& options) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(path, options));
  DW_RETURN_IF_ERROR(database->Migrate(kMigrations));
  return std::unique_ptr<RegistryTables>(new RegistryTables(std::move(database)));
}

// ---- Tenants and adapters ----

absl::Status RegistryTables::RememberTenant(absl::string_view tenant) {
  return database_->Run("INSERT INTO tenants (tenant) VALUES (?) ON CONFLICT DO NOTHING", {tenant});
}

absl::StatusOr<std::vector<std::string>> RegistryTables::Tenants() {
  DW_ASSIGN_OR_RETURN(Rows rows, database_->Query("SELECT tenant FROM tenants ORDER BY tenant"));
  std::vector<std::string> tenants;
  while (rows.Next()) tenants.push_back(rows.Text(0));
  DW_RETURN_IF_ERROR(rows.status());
  return tenants;
}

absl::StatusOr<std::optional<AdapterRow>> RegistryTables::FindAdapter(const AdapterId& id) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT adapter, base_source_digest, version_count, latest_version, "
                       "create_time_us, update_time_us FROM adapters "
                       "WHERE tenant = ? AND adapter = ?",
                       {id.tenant, id.adapter}));
  std::optional<AdapterRow> row;
  if (rows.Next()) row = ReadAdapter(rows);
  DW_RETURN_IF_ERROR(rows.status());
  return row;
}

absl::StatusOr<std::vector<AdapterRow>> RegistryTables::ListAdapters(absl::string_view tenant,
                                                                     absl::string_view after,
                                                                     int64_t limit) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT adapter, base_source_digest, version_count, latest_version, "
                       "create_time_us, update_time_us FROM adapters "
                       "WHERE tenant = ? AND adapter > ? ORDER BY adapter LIMIT ?",
                       {tenant, after, limit}));
  std::vector<AdapterRow> adapters;
  while (rows.Next()) adapters.push_back(ReadAdapter(rows));
  DW_RETURN_IF_ERROR(rows.status());
  return adapters;
}

// ---- Versions ----

absl::StatusOr<v1::AdapterVersion> RegistryTables::ParseVersion(const std::string& bytes) const {
  v1::AdapterVersion version;
  if (version.ParseFromString(bytes)) return version;
  return absl::DataLossError(
      absl::StrCat(database_->path(), ": the row of a version cannot be read"));
}

absl::StatusOr<std::optional<v1::AdapterVersion>> RegistryTables::FindVersion(const AdapterId& id,
                                                                              int64_t number) {
  DW_ASSIGN_OR_RETURN(Rows rows, database_->Query("SELECT version FROM versions "
                                                  "WHERE tenant = ? AND adapter = ? AND number = ?",
                                                  {id.tenant, id.adapter, number}));
  if (!rows.Next()) {
    DW_RETURN_IF_ERROR(rows.status());
    return std::nullopt;
  }
  return ParseVersion(rows.Text(0));
}

absl::StatusOr<std::optional<v1::AdapterVersion>> RegistryTables::FindVersionOfSource(
    absl::string_view source_key) {
  DW_ASSIGN_OR_RETURN(
      Rows rows, database_->Query("SELECT version FROM versions WHERE source = ?", {source_key}));
  if (!rows.Next()) {
    DW_RETURN_IF_ERROR(rows.status());
    return std::nullopt;
  }
  return ParseVersion(rows.Text(0));
}

absl::StatusOr<std::vector<v1::AdapterVersion>> RegistryTables::ListVersions(
    const AdapterId& id, int64_t below, bool ready_only, int64_t limit, int64_t bytes_max) {
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT version FROM versions WHERE tenant = ? "
                                       "AND adapter = ? AND number < ? AND ready >= ? "
                                       "ORDER BY number DESC LIMIT ?",
                                       {id.tenant, id.adapter, below, ready_only, limit}));
  std::vector<v1::AdapterVersion> versions;
  int64_t bytes_sum = 0;
  while (bytes_sum < bytes_max && rows.Next()) {
    const std::string bytes = rows.Text(0);
    bytes_sum += static_cast<int64_t>(bytes.size());
    DW_ASSIGN_OR_RETURN(versions.emplace_back(), ParseVersion(bytes));
  }
  DW_RETURN_IF_ERROR(rows.status());
  return versions;
}

absl::Status RegistryTables::InsertVersion(const AdapterId& id, absl::string_view source_key,
                                           const v1::AdapterVersion& version, absl::Time now) {
  const int64_t now_us = absl::ToUnixMicros(now);
  DW_RETURN_IF_ERROR(RememberTenant(id.tenant));
  DW_RETURN_IF_ERROR(database_->Run(
      "INSERT INTO adapters (tenant, adapter, base_source_digest, version_count, latest_version, "
      "create_time_us, update_time_us) VALUES (?, ?, '', 0, 0, ?, ?) ON CONFLICT DO NOTHING",
      {id.tenant, id.adapter, now_us, now_us}));
  const bool ready = version.state() == v1::AdapterVersion::READY;
  const std::string bytes = version.SerializeAsString();
  DW_RETURN_IF_ERROR(database_->Run(
      "INSERT INTO versions (tenant, adapter, number, ready, source, manifest_digest, version) "
      "SELECT tenant, adapter, version_count + 1, ?, ?, ?, ? FROM adapters "
      "WHERE tenant = ? AND adapter = ?",
      {ready, source_key, version.manifest_digest(), SqlBlob{bytes}, id.tenant, id.adapter}));
  return database_->Run(
      "UPDATE adapters SET version_count = version_count + 1, update_time_us = ?1, "
      "latest_version = iif(?2, version_count + 1, latest_version), "
      "base_source_digest = iif(?2, ?3, base_source_digest) WHERE tenant = ?4 AND adapter = ?5",
      {now_us, ready, version.base_source_digest(), id.tenant, id.adapter});
}

absl::StatusOr<std::vector<RegistryTables::ReadyVersion>> RegistryTables::ListReady(
    absl::string_view tenant, absl::string_view after_adapter, int64_t after_number,
    int64_t limit) {
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT adapter, number, manifest_digest FROM versions "
                                       "WHERE tenant = ? AND (adapter, number) > (?, ?) "
                                       "AND ready = 1 ORDER BY adapter, number LIMIT ?",
                                       {tenant, after_adapter, after_number, limit}));
  std::vector<ReadyVersion> versions;
  while (rows.Next()) {
    versions.push_back({{std::string(tenant), rows.Text(0)}, rows.Int64(1), rows.Text(2)});
  }
  DW_RETURN_IF_ERROR(rows.status());
  return versions;
}

// ---- Aliases ----

absl::StatusOr<std::optional<AliasRow>> RegistryTables::FindAlias(const AdapterId& id,
                                                                  absl::string_view alias) {
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT alias, number, change, update_time_us FROM aliases "
                                       "WHERE tenant = ? AND adapter = ? AND alias = ?",
                                       {id.tenant, id.adapter, alias}));
  std::optional<AliasRow> row;
  if (rows.Next()) row = ReadAlias(rows);
  DW_RETURN_IF_ERROR(rows.status());
  return row;
}

absl::StatusOr<std::vector<AliasRow>> RegistryTables::ListAliases(const AdapterId& id,
                                                                  absl::string_view after,
                                                                  int64_t limit) {
  DW_ASSIGN_OR_RETURN(
      Rows rows,
      database_->Query("SELECT alias, number, change, update_time_us FROM aliases WHERE tenant = ? "
                       "AND adapter = ? AND alias > ? ORDER BY alias LIMIT ?",
                       {id.tenant, id.adapter, after, limit}));
  std::vector<AliasRow> aliases;
  while (rows.Next()) aliases.push_back(ReadAlias(rows));
  DW_RETURN_IF_ERROR(rows.status());
  return aliases;
}

absl::StatusOr<int64_t> RegistryTables::CountAliases(const AdapterId& id) {
  DW_ASSIGN_OR_RETURN(
      Rows rows, database_->Query("SELECT count(*) FROM aliases WHERE tenant = ? AND adapter = ?",
                                  {id.tenant, id.adapter}));
  const int64_t count = rows.Next() ? rows.Int64(0) : 0;
  DW_RETURN_IF_ERROR(rows.status());
  return count;
}

absl::Status RegistryTables::ChangeAlias(const AdapterId& id, absl::string_view alias,
                                         int64_t old_number, int64_t new_number,
                                         absl::string_view comment, absl::Time now) {
  const int64_t now_us = absl::ToUnixMicros(now);
  DW_RETURN_IF_ERROR(
      database_->Run("INSERT INTO alias_changes (tenant, adapter, alias, time_us, old_number, "
                     "new_number, comment) VALUES (?, ?, ?, ?, ?, ?, ?)",
                     {id.tenant, id.adapter, alias, now_us, old_number, new_number, comment}));
  const int64_t change = database_->last_insert_rowid();
  if (new_number == 0) {
    return database_->Run("DELETE FROM aliases WHERE tenant = ? AND adapter = ? AND alias = ?",
                          {id.tenant, id.adapter, alias});
  }
  return database_->Run(
      "INSERT INTO aliases (tenant, adapter, alias, number, change, update_time_us) "
      "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET number = excluded.number, "
      "change = excluded.change, update_time_us = excluded.update_time_us",
      {id.tenant, id.adapter, alias, new_number, change, now_us});
}

absl::StatusOr<std::vector<AliasChangeRow>> RegistryTables::ListAliasChanges(
    const AdapterId& id, absl::string_view alias, int64_t below, int64_t limit) {
  DW_ASSIGN_OR_RETURN(Rows rows,
                      database_->Query("SELECT change, time_us, old_number, new_number, comment "
                                       "FROM alias_changes WHERE tenant = ? AND adapter = ? "
                                       "AND alias = ? AND change < ? ORDER BY change DESC LIMIT ?",
                                       {id.tenant, id.adapter, alias, below, limit}));
  std::vector<AliasChangeRow> changes;
  while (rows.Next()) {
    changes.push_back({rows.Int64(0), absl::FromUnixMicros(rows.Int64(1)), rows.Int64(2),
                       rows.Int64(3), rows.Text(4)});
  }
  DW_RETURN_IF_ERROR(rows.status());
  return changes;
}

}  // namespace deltaworks::services
