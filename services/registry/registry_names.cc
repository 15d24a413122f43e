#include "services/registry/registry_names.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// A page of versions must fit into a message of 4 MiB with room to spare.
constexpr int64_t kVersionBytesMax = 1 << 20;

bool IsNumber(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// The number of "versions/{text}"; 0 for what no version is called.
int64_t VersionNumber(absl::string_view text) {
  int64_t number = 0;
  const bool canonical =
      IsNumber(text) && absl::SimpleAtoi(text, &number) && absl::StrCat(number) == text;
  return canonical ? number : 0;
}

absl::Status CheckTenant(absl::string_view field, absl::string_view name, absl::string_view pattern,
                         absl::string_view tenant) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, ParseName(field, name, pattern));
  if (ids[0] == tenant) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", name, ", want one of tenants/", tenant, " as parent has"));
}

absl::Status CheckSource(const v1::VersionSource& source, absl::string_view tenant) {
  DW_RETURN_IF_ERROR(CheckTenant("adapter_version.source.job", source.job(), kJobPattern, tenant));
  switch (source.product_case()) {
    case v1::VersionSource::kResult:
      if (source.result()) return absl::OkStatus();
      return absl::InvalidArgumentError("adapter_version.source.result is false, want true");
    case v1::VersionSource::kCheckpointStep:
      if (source.checkpoint_step() >= 1) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat("adapter_version.source.checkpoint_step is ",
                                                     source.checkpoint_step(), ", want >= 1"));
    case v1::VersionSource::PRODUCT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "adapter_version.source names no product, want result or checkpoint_step");
}

}  // namespace

absl::StatusOr<AdapterId> ParseAdapterName(const Caller& caller, absl::string_view field,
                                           absl::string_view name) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, ParseName(field, name, kAdapterPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfName(caller, name));
  return AdapterId{ids[0], ids[1]};
}

absl::StatusOr<AdapterId> ParseAdapterParent(const Caller& caller, absl::string_view parent) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids,
                      ParseName("parent", parent, kAdapterPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, parent));
  return AdapterId{ids[0], ids[1]};
}

absl::StatusOr<AliasId> ParseAliasName(const Caller& caller, absl::string_view field,
                                       absl::string_view name) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, ParseName(field, name, kAliasPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfName(caller, name));
  return AliasId{{ids[0], ids[1]}, ids[2]};
}

absl::Status CheckNewAlias(const AliasId& id) {
  if (!IsNumber(id.alias) && id.alias != "latest") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("alias.name is ", id.Name(), ", want an id that is no number and not latest"));
}

absl::StatusOr<VersionId> ParseVersionName(const Caller& caller, absl::string_view field,
                                           absl::string_view name) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, ParseName(field, name, kVersionPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfName(caller, name));
  const int64_t number = VersionNumber(ids[2]);
  if (number == 0) return NoSuchResource(name);
  return VersionId{{ids[0], ids[1]}, number, ""};
}

absl::StatusOr<VersionId> ParseVersionReference(const Caller& caller, absl::string_view name) {
  if (MatchesName(name, kVersionPattern)) return ParseVersionName(caller, "name", name);
  if (MatchesName(name, kAliasPattern)) {
    DW_ASSIGN_OR_RETURN(const AliasId id, ParseAliasName(caller, "name", name));
    return VersionId{id.adapter, 0, id.alias};
  }
  if (MatchesName(name, kAdapterPattern)) {
    DW_ASSIGN_OR_RETURN(AdapterId adapter, ParseAdapterName(caller, "name", name));
    return VersionId{std::move(adapter), 0, ""};
  }
  return ParseName("name", name, kVersionPattern).status();
}

std::string SourceKey(const v1::VersionSource& source) {
  if (source.has_result()) return absl::StrCat(source.job(), "/result");
  return absl::StrCat(source.job(), "/checkpoints/", source.checkpoint_step());
}

absl::Status CheckCreateVersionRequest(const v1::CreateVersionRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids,
                      ParseName("parent", request.parent(), kAdapterPattern));
  const std::string& tenant = ids[0];
  const v1::AdapterVersion& version = request.adapter_version();
  DW_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  DW_RETURN_IF_ERROR(CheckSource(version.source(), tenant));
  DW_RETURN_IF_ERROR(CheckDigest("adapter_version.manifest_digest", version.manifest_digest()));
  DW_RETURN_IF_ERROR(
      CheckTenant("adapter_version.base_model", version.base_model(), kBaseModelPattern, tenant));
  if (!version.dataset().empty()) {
    DW_RETURN_IF_ERROR(
        CheckTenant("adapter_version.dataset", version.dataset(), kDatasetPattern, tenant));
  }
  const int64_t bytes = static_cast<int64_t>(version.ByteSizeLong());
  if (bytes <= kVersionBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("adapter_version has ", bytes, " bytes, want at most ", kVersionBytesMax));
}

}  // namespace deltaworks::services
