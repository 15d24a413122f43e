// Names that the registry takes: parsed, checked, and compared with the caller's tenant.
//
// Errors: InvalidArgument for what is no such name; those of services/base/caller.h for what is
// another tenant's. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_REGISTRY_REGISTRY_NAMES_H_
#define DELTAWORKS_SERVICES_REGISTRY_REGISTRY_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "services/base/caller.h"
#include "services/registry/registry_tables.h"

namespace deltaworks::services {

// "tenants/t/adapters/a" as a name, and as a parent.
absl::StatusOr<AdapterId> ParseAdapterName(const Caller& caller, absl::string_view field,
                                           absl::string_view name);
absl::StatusOr<AdapterId> ParseAdapterParent(const Caller& caller, absl::string_view parent);

struct AliasId {
  AdapterId adapter;
  std::string alias;
  std::string Name() const { return adapter.AliasName(alias); }
};
absl::StatusOr<AliasId> ParseAliasName(const Caller& caller, absl::string_view field,
                                       absl::string_view name);
// InvalidArgument for what may not be made an alias: a number, "latest".
absl::Status CheckNewAlias(const AliasId& id);

// What a version may be called by. One of `number` and `alias` is set, or neither: the newest.
struct VersionId {
  AdapterId adapter;
  int64_t number = 0;
  std::string alias;
};
absl::StatusOr<VersionId> ParseVersionReference(const Caller& caller, absl::string_view name);
// .../versions/{number} only.
absl::StatusOr<VersionId> ParseVersionName(const Caller& caller, absl::string_view field,
                                           absl::string_view name);

// "tenants/t/jobs/j/result" or "tenants/t/jobs/j/checkpoints/5". `source` is valid.
std::string SourceKey(const v1::VersionSource& source);

// Everything of a CreateVersionRequest that can be told from it alone.
absl::Status CheckCreateVersionRequest(const v1::CreateVersionRequest& request);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_REGISTRY_NAMES_H_
