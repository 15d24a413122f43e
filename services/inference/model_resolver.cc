#include "services/inference/model_resolver.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kBasePagesMax = 100;
constexpr int kBasePageSize = 1'000;
constexpr size_t kQuotedSizeMax = 200;

constexpr const char* kAdapterPatterns[] = {kVersionPattern, kAliasPattern, kAdapterPattern};

bool IsAdapterName(const std::string& name) {
  for (const char* pattern : kAdapterPatterns) {
    if (MatchesName(name, pattern)) return true;
  }
  return false;
}

absl::Status CheckTenant(const std::string& tenant, const std::string& name) {
  return TenantOf(name) == tenant ? absl::OkStatus() : NoSuchResource(name);
}

absl::Status OtherBase(const v1::AdapterVersion& version, const v1::BaseModel& base) {
  return absl::FailedPreconditionError(absl::StrCat(version.name(), " is bound to base ",
                                                    version.base_source_digest(), ", but ",
                                                    base.name(), " is ", base.source_digest()));
}

}  // namespace

absl::Status CheckModelSelector(const std::string& field, const std::string& tenant,
                                const v1::ModelSelector& selector) {
  const std::string& model = selector.model();
  const bool is_base = MatchesName(model, kBaseModelPattern);
  if (!is_base && !IsAdapterName(model)) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ".model is ", JsonQuote(model.substr(0, kQuotedSizeMax)), ", want ",
        kBaseModelPattern, ", ", kVersionPattern, ", ", kAliasPattern, " or ", kAdapterPattern));
  }
  DW_RETURN_IF_ERROR(CheckTenant(tenant, model));
  if (!v1::ModelSelector::Mode_IsValid(selector.mode())) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ".mode is ", static_cast<int>(selector.mode()), ", want UNMERGED or MERGED"));
  }
  if (selector.base_model().empty()) return absl::OkStatus();
  if (is_base) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ".base_model is ", JsonQuote(selector.base_model().substr(0, kQuotedSizeMax)),
        ", want it empty: ", model, " is a base itself"));
  }
  DW_RETURN_IF_ERROR(
      ParseName(absl::StrCat(field, ".base_model"), selector.base_model(), kBaseModelPattern)
          .status());
  return CheckTenant(tenant, selector.base_model());
}

absl::StatusOr<ResolvedModel> ModelResolver::Resolve(const std::string& tenant,
                                                     const v1::ModelSelector& selector) const {
  ResolvedModel resolved;
  if (!IsAdapterName(selector.model())) {
    DW_ASSIGN_OR_RETURN(resolved.base, ReadyBase(selector.model()));
    return resolved;
  }
  DW_ASSIGN_OR_RETURN(v1::AdapterVersion version, registry_.GetVersion(selector.model()));
  // The registry shows services everything, so its answer is compared too.
  DW_RETURN_IF_ERROR(CheckTenant(tenant, version.name()));
  if (version.state() != v1::AdapterVersion::READY) {
    return absl::FailedPreconditionError(
        absl::StrCat(version.name(), " is ", v1::AdapterVersion::State_Name(version.state()),
                     version.failure().message().empty() ? "" : ": ", version.failure().message(),
                     ", want READY"));
  }
  if (selector.base_model().empty()) {
    DW_ASSIGN_OR_RETURN(resolved.base, FindBase(tenant, version));
  } else {
    DW_ASSIGN_OR_RETURN(resolved.base, ReadyBase(selector.base_model()));
    if (resolved.base.source_digest() != version.base_source_digest()) {
      return OtherBase(version, resolved.base);
    }
  }
  resolved.version = std::move(version);
  resolved.merged = selector.mode() == v1::ModelSelector::MERGED;
  return resolved;
}

absl::StatusOr<v1::BaseModel> ModelResolver::ReadyBase(const std::string& name) const {
  DW_ASSIGN_OR_RETURN(v1::BaseModel base, store_.GetBaseModel(name));
  if (base.state() == v1::BaseModel::READY) return base;
  return absl::FailedPreconditionError(absl::StrCat(
      name, " is ", v1::BaseModel::State_Name(base.state()),
      base.failure().message().empty() ? "" : ": ", base.failure().message(), ", want READY"));
}

absl::StatusOr<v1::BaseModel> ModelResolver::FindBase(const std::string& tenant,
                                                      const v1::AdapterVersion& version) const {
  // The base that it was trained on, as a rule.
  if (MatchesName(version.base_model(), kBaseModelPattern) &&
      TenantOf(version.base_model()) == tenant) {
    absl::StatusOr<v1::BaseModel> own = store_.GetBaseModel(version.base_model());
    if (!own.ok() && !absl::IsNotFound(own.status())) return own;
    if (own.ok() && own->state() == v1::BaseModel::READY && own->form() == version.base_form() &&
        own->source_digest() == version.base_source_digest()) {
      return own;
    }
  }
  std::optional<v1::BaseModel> other_form;
  v1::ListBaseModelsRequest request;
  request.set_parent(TenantName(tenant));
  request.set_page_size(kBasePageSize);
  for (int page = 0; page < kBasePagesMax; ++page) {
    DW_ASSIGN_OR_RETURN(const v1::ListBaseModelsResponse answer, store_.ListBaseModels(request));
    for (const v1::BaseModel& base : answer.base_models()) {
      if (base.state() != v1::BaseModel::READY ||
          base.source_digest() != version.base_source_digest()) {
        continue;
      }
      if (base.form() == version.base_form()) return base;
      if (!other_form.has_value()) other_form = base;
    }
    request.set_page_token(answer.next_page_token());
    if (request.page_token().empty()) break;
  }
  if (other_form.has_value()) return *std::move(other_form);
  return absl::FailedPreconditionError(
      absl::StrCat(version.name(), " is bound to base ", version.base_source_digest(),
                   ", but no READY base of ", TenantName(tenant), " is that one"));
}

}  // namespace deltaworks::services
