// RegistryTables: adapters, versions, aliases and their history in SQLite.
//
// Rows in, rows out: no rule of the registry is here but that numbers of versions grow by one. A
// version is stored as the message it is, beside the columns that are looked up. Writes belong in a
// Transaction of database(); the request log is in the same file.
//
// Errors are those of services/base/sqlite.h. Thread-compatible, like the database.

#ifndef DELTAWORKS_SERVICES_REGISTRY_REGISTRY_TABLES_H_
#define DELTAWORKS_SERVICES_REGISTRY_REGISTRY_TABLES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "services/base/sqlite.h"

namespace deltaworks::services {

struct AdapterId {
  std::string tenant;
  std::string adapter;

  // "tenants/t/adapters/a", ".../versions/n", ".../aliases/x".
  std::string Name() const;
  std::string VersionName(int64_t number) const;
  std::string AliasName(absl::string_view alias) const;
};

struct AdapterRow {
  std::string adapter;
  std::string base_source_digest;  // Empty until a version is READY.
  int64_t version_count = 0;       // Also the largest number.
  int64_t latest_version = 0;      // The newest READY one; 0: none.
  absl::Time create_time;
  absl::Time update_time;
};

struct AliasRow {
  std::string alias;
  int64_t number = 0;
  int64_t change = 0;  // The change that made it so; never used twice.
  absl::Time update_time;
};

struct AliasChangeRow {
  int64_t change = 0;
  absl::Time time;
  int64_t old_number = 0;  // 0: the alias was made.
  int64_t new_number = 0;  // 0: it was deleted.
  std::string comment;
};

class RegistryTables {
 public:
  static absl::StatusOr<std::unique_ptr<RegistryTables>> Open(const std::string& path,
                                                              const Database::Options& options);

  Database& database() { return *database_; }

  // Tenants that ever had a version checked; a superset of those with pins.
  absl::Status RememberTenant(absl::string_view tenant);
  absl::StatusOr<std::vector<std::string>> Tenants();

  absl::StatusOr<std::optional<AdapterRow>> FindAdapter(const AdapterId& id);
  // By id, those after `after`.
  absl::StatusOr<std::vector<AdapterRow>> ListAdapters(absl::string_view tenant,
                                                       absl::string_view after, int64_t limit);

  absl::StatusOr<std::optional<v1::AdapterVersion>> FindVersion(const AdapterId& id,
                                                                int64_t number);
  // `source_key`: SourceKey() of registry_names.h, unique in all tenants.
  absl::StatusOr<std::optional<v1::AdapterVersion>> FindVersionOfSource(
      absl::string_view source_key);
  // Newest first, numbers below `below`, of all of them about `bytes_max` bytes (at least one row).
  absl::StatusOr<std::vector<v1::AdapterVersion>> ListVersions(const AdapterId& id, int64_t below,
                                                               bool ready_only, int64_t limit,
                                                               int64_t bytes_max);
  // Stores version version_count + 1 of the adapter, which is made with its first one.
  // `version` is complete, its name included.
  absl::Status InsertVersion(const AdapterId& id, absl::string_view source_key,
                             const v1::AdapterVersion& version, absl::Time now);

  // READY versions of a tenant after (adapter, number), in that order: what must be pinned.
  struct ReadyVersion {
    AdapterId id;
    int64_t number = 0;
    std::string manifest_digest;
  };
  absl::StatusOr<std::vector<ReadyVersion>> ListReady(absl::string_view tenant,
                                                      absl::string_view after_adapter,
                                                      int64_t after_number, int64_t limit);

  absl::StatusOr<std::optional<AliasRow>> FindAlias(const AdapterId& id, absl::string_view alias);
  absl::StatusOr<std::vector<AliasRow>> ListAliases(const AdapterId& id, absl::string_view after,
                                                    int64_t limit);
  absl::StatusOr<int64_t> CountAliases(const AdapterId& id);
  // Points the alias at `new_number` (0: removes it) and adds the change to its history.
  absl::Status ChangeAlias(const AdapterId& id, absl::string_view alias, int64_t old_number,
                           int64_t new_number, absl::string_view comment, absl::Time now);
  // Newest first, changes below `below`.
  absl::StatusOr<std::vector<AliasChangeRow>> ListAliasChanges(const AdapterId& id,
                                                               absl::string_view alias,
                                                               int64_t below, int64_t limit);

 private:
  explicit RegistryTables(std::unique_ptr<Database> database) : database_(std::move(database)) {}
  absl::StatusOr<v1::AdapterVersion> ParseVersion(const std::string& bytes) const;

  const std::unique_ptr<Database> database_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_REGISTRY_TABLES_H_
