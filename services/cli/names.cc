#include "services/cli/names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

absl::StatusOr<std::string> Resolve(const CommandContext& context, const std::string& argument,
                                    const std::string& text, const char* collection,
                                    const char* pattern) {
  if (absl::StartsWith(text, "tenants/")) {
    DW_RETURN_IF_ERROR(ParseName(argument, text, pattern).status());
    return text;
  }
  DW_RETURN_IF_ERROR(CheckResourceId(argument, text));
  return TenantResourceName(context.tenant, collection, text);
}

// `adapter` + "/versions/3" or "/aliases/a", with the adapter short or full.
absl::StatusOr<std::string> Within(const CommandContext& context, const std::string& argument,
                                   absl::string_view adapter, const char* collection,
                                   absl::string_view id) {
  DW_ASSIGN_OR_RETURN(const std::string name, AdapterName(context, argument, std::string(adapter)));
  DW_RETURN_IF_ERROR(CheckResourceId(argument, id));
  return absl::StrCat(name, "/", collection, "/", id);
}

}  // namespace

std::string ParentName(const CommandContext& context) { return TenantName(context.tenant); }

absl::StatusOr<std::string> WorkerName(const std::string& argument, const std::string& text) {
  const absl::string_view id = absl::StripPrefix(absl::string_view(text), "workers/");
  DW_RETURN_IF_ERROR(CheckResourceId(argument, id));
  return absl::StrCat("workers/", id);
}

absl::StatusOr<std::string> TenantArgument(const std::string& argument, const std::string& text) {
  const absl::string_view id = absl::StripPrefix(absl::string_view(text), "tenants/");
  DW_RETURN_IF_ERROR(CheckResourceId(argument, id));
  return TenantName(id);
}

absl::StatusOr<std::string> JobName(const CommandContext& context, const std::string& argument,
                                    const std::string& text) {
  return Resolve(context, argument, text, "jobs", kJobPattern);
}

absl::StatusOr<std::string> DatasetName(const CommandContext& context, const std::string& argument,
                                        const std::string& text) {
  return Resolve(context, argument, text, "datasets", kDatasetPattern);
}

absl::StatusOr<std::string> BaseModelName(const CommandContext& context,
                                          const std::string& argument, const std::string& text) {
  return Resolve(context, argument, text, "baseModels", kBaseModelPattern);
}

absl::StatusOr<std::string> AdapterName(const CommandContext& context, const std::string& argument,
                                        const std::string& text) {
  return Resolve(context, argument, text, "adapters", kAdapterPattern);
}

absl::StatusOr<std::string> VersionName(const CommandContext& context, const std::string& argument,
                                        const std::string& text) {
  if (MatchesName(text, kVersionPattern) || MatchesName(text, kAliasPattern)) return text;
  if (const size_t at = text.find('@'); at != std::string::npos) {
    return AliasName(context, argument, text);
  }
  if (absl::StartsWith(text, "tenants/")) return AdapterName(context, argument, text);
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return AdapterName(context, argument, text);
  const absl::string_view id =
      absl::StripPrefix(absl::string_view(text).substr(slash + 1), "versions/");
  return Within(context, argument, absl::string_view(text).substr(0, slash), "versions", id);
}

absl::StatusOr<std::string> AliasName(const CommandContext& context, const std::string& argument,
                                      const std::string& text) {
  if (MatchesName(text, kAliasPattern)) return text;
  const size_t at = text.find('@');
  if (at == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(argument, " is ", JsonQuote(text), ", want ADAPTER@ALIAS"));
  }
  return Within(context, argument, absl::string_view(text).substr(0, at), "aliases",
                absl::string_view(text).substr(at + 1));
}

}  // namespace deltaworks::services
