// Resource names: "tenants/{tenant}/datasets/{dataset}" and the rules of proto/.../common.proto.
//
// Every error is InvalidArgument and says the field, what was got and what is wanted. Plain
// functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_RESOURCE_NAMES_H_
#define DELTAWORKS_SERVICES_BASE_RESOURCE_NAMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::services {

// Patterns for ParseName.
inline constexpr char kTenantPattern[] = "tenants/{tenant}";
inline constexpr char kJobPattern[] = "tenants/{tenant}/jobs/{job}";
inline constexpr char kDatasetPattern[] = "tenants/{tenant}/datasets/{dataset}";
inline constexpr char kBaseModelPattern[] = "tenants/{tenant}/baseModels/{base_model}";
inline constexpr char kUploadPattern[] = "tenants/{tenant}/uploads/{upload}";
inline constexpr char kAdapterPattern[] = "tenants/{tenant}/adapters/{adapter}";
inline constexpr char kVersionPattern[] = "tenants/{tenant}/adapters/{adapter}/versions/{version}";
inline constexpr char kAliasPattern[] = "tenants/{tenant}/adapters/{adapter}/aliases/{alias}";
inline constexpr char kWorkerPattern[] = "workers/{worker}";

// 1-63 of a-z, 0-9 and "-", beginning with a letter or digit, not ending with "-".
bool IsResourceId(absl::string_view id);
absl::Status CheckResourceId(absl::string_view field, absl::string_view id);

// The ids of `name` at the {places} of `pattern`, in order.
//   name is "tenants/default/jobs", want tenants/{tenant}/jobs/{job}
absl::StatusOr<std::vector<std::string>> ParseName(absl::string_view field, absl::string_view name,
                                                   absl::string_view pattern);

// True if `name` matches `pattern`; for fields that may be of several kinds.
bool MatchesName(absl::string_view name, absl::string_view pattern);

// The tenant of any name that begins with "tenants/{tenant}"; empty if it does not.
absl::string_view TenantOf(absl::string_view name);

// "tenants/t".
std::string TenantName(absl::string_view tenant);
// "tenants/t/datasets/id".
std::string TenantResourceName(absl::string_view tenant, absl::string_view collection,
                               absl::string_view id);

// At most `size_max` bytes of UTF-8 without control characters but newline and tab.
absl::Status CheckText(absl::string_view field, absl::string_view text, int64_t size_max);

// "sha256:" + 64 lower-case hex digits.
absl::Status CheckDigest(absl::string_view field, absl::string_view digest);

// Empty, or at most 64 printable ASCII characters.
absl::Status CheckRequestId(absl::string_view request_id);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_RESOURCE_NAMES_H_
