#include "services/clients/fake_operator_client.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kAllTenantsParent[] = "tenants/-";

}  // namespace

absl::Status FakeOperatorClient::CheckChange() const {
  if (caller.all_tenants()) return change_failure;
  return absl::PermissionDeniedError("the token given is a tenant's, want one of the platform");
}

absl::StatusOr<v1::Quota> FakeOperatorClient::SetQuota(const v1::SetQuotaRequest& request) {
  DW_RETURN_IF_ERROR(CheckChange());
  quota_request = request;
  v1::Quota& quota = quotas[request.quota().name()];
  const std::string etag = quota.etag();
  if (!request.quota().etag().empty() && request.quota().etag() != etag) {
    return absl::AbortedError(
        absl::StrCat("quota.etag is \"", request.quota().etag(), "\", want \"", etag, "\""));
  }
  quota = request.quota();
  if (quota.weight() == 0) quota.set_weight(1);
  quota.set_etag(absl::StrCat(etag, "+"));
  return quota;
}

absl::StatusOr<v1::ListQuotasResponse> FakeOperatorClient::ListQuotas(
    const v1::ListQuotasRequest&) {
  v1::ListQuotasResponse response;
  for (const auto& [name, quota] : quotas) {
    if (CheckTenantOfName(caller, name).ok()) *response.add_quotas() = quota;
  }
  return response;
}

absl::StatusOr<v1::ListUsageResponse> FakeOperatorClient::ListUsage(
    const v1::ListUsageRequest& request) {
  if (request.parent() != kAllTenantsParent) {
    DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, request.parent()));
  }
  usage_request = request;
  v1::ListUsageResponse response;
  for (const v1::UsageDay& row : usage) {
    const int64_t day = row.day().seconds() / 86'400;
    if (!CheckTenantOfParent(caller, row.tenant()).ok()) continue;
    if (request.parent() != kAllTenantsParent && request.parent() != row.tenant()) continue;
    if (day < request.first_day()) continue;
    if (request.last_day() != 0 && day > request.last_day()) continue;
    *response.add_days() = row;
  }
  return response;
}

absl::StatusOr<v1::SetWorkerModeResponse> FakeOperatorClient::SetWorkerMode(
    const v1::SetWorkerModeRequest& request) {
  DW_RETURN_IF_ERROR(CheckChange());
  for (v1::Worker& worker : workers_) {
    if (worker.name() != request.worker()) continue;
    worker.set_mode(request.mode());
    v1::SetWorkerModeResponse response;
    response.set_mode(request.mode());
    if (request.mode() == v1::WORKER_DRAINED) response.set_leaving(worker.job_count());
    return response;
  }
  if (const auto found = unlisted.find(request.worker()); found != unlisted.end()) {
    v1::SetWorkerModeResponse response;
    response.set_mode(request.mode());
    response.set_leaving(found->second);
    return response;
  }
  return absl::NotFoundError(absl::StrCat(request.worker(), " never reported"));
}

}  // namespace deltaworks::services
