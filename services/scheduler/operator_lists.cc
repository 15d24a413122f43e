#include "services/scheduler/operator_lists.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"
#include "scheduler/job_record.h"
#include "scheduler/resource_name.h"
#include "services/base/page_token.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kDaySeconds = 24 * 3600;
constexpr double kHourMs = 3'600'000;
constexpr char kAllTenantsParent[] = "tenants/-";

// One row of usage, in the order in which rows are listed.
struct UsageKey {
  int64_t day = 0;
  std::string tenant;
  bool operator<(const UsageKey& other) const {
    return std::tie(other.day, tenant) < std::tie(day, other.tenant);
  }
};

absl::StatusOr<UsageKey> ParseKey(const std::string& cursor) {
  const std::vector<std::string> parts = absl::StrSplit(cursor, absl::MaxSplits('|', 1));
  UsageKey key;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &key.day)) {
    return absl::InvalidArgumentError(
        "page_token is not one of this list, want the next_page_token of the page before");
  }
  key.tenant = parts[1];
  return key;
}

absl::Status CheckDays(const v1::ListUsageRequest& request) {
  if (request.first_day() >= 0 && request.last_day() >= 0 &&
      (request.last_day() == 0 || request.first_day() <= request.last_day())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("first_day is ", request.first_day(), ", last_day is ", request.last_day(),
                   ", want days since 1970-01-01, the first not after the last (0: no bound)"));
}

// Whose usage `parent` asks for and `caller` may see.
absl::StatusOr<std::vector<std::string>> TenantsOf(const CommittedView& view, const Caller& caller,
                                                   const std::string& parent) {
  if (parent != kAllTenantsParent) {
    DW_ASSIGN_OR_RETURN(std::vector<std::string> tenant,
                        ParseName("parent", parent, kTenantPattern));
    DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, parent));
    return tenant;
  }
  if (!caller.all_tenants()) return std::vector<std::string>{caller.tenant};
  return view.state.usage().Tenants();
}

}  // namespace

absl::StatusOr<v1::Quota> ShowQuota(const CommittedView& view, const std::string& name) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, scheduler::ParseQuotaName("quota.name", name));
  const auto found = view.state.quotas().find(tenant);
  CHECK(found != view.state.quotas().end()) << name;
  return found->second;
}

absl::StatusOr<v1::ListQuotasResponse> ListQuotas(const CommittedView& view, const Caller& caller,
                                                  const v1::ListQuotasRequest& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  v1::ListQuotasResponse response;
  const auto& quotas = view.state.quotas();
  std::string last;
  for (auto it = quotas.upper_bound(page.cursor); it != quotas.end(); ++it) {
    if (!caller.MayUse(it->first)) continue;
    if (response.quotas_size() == page.size) {
      response.set_next_page_token(page.NextToken(last));
      break;
    }
    *response.add_quotas() = it->second;
    last = it->first;
  }
  return response;
}

absl::StatusOr<v1::ListUsageResponse> ListUsage(const CommittedView& view, const Caller& caller,
                                                const v1::ListUsageRequest& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  DW_RETURN_IF_ERROR(CheckDays(request));
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> tenants,
                      TenantsOf(view, caller, request.parent()));
  UsageKey after;
  if (!page.cursor.empty()) {
    DW_ASSIGN_OR_RETURN(after, ParseKey(page.cursor));
  }

  std::vector<UsageKey> keys;
  for (const std::string& tenant : tenants) {
    const scheduler::Usage::Rows* days = view.state.usage().Days(tenant);
    if (days == nullptr) continue;
    for (auto it = days->lower_bound(request.first_day()); it != days->end(); ++it) {
      if (request.last_day() != 0 && it->first > request.last_day()) break;
      UsageKey key = {it->first, tenant};
      if (page.cursor.empty() || after < key) keys.push_back(std::move(key));
    }
  }
  const int64_t shown = std::min<int64_t>(static_cast<int64_t>(keys.size()), page.size);
  std::partial_sort(keys.begin(), keys.begin() + shown, keys.end());

  v1::ListUsageResponse response;
  for (int64_t i = 0; i < shown; ++i) {
    const auto& [day, tenant] = keys[i];
    const scheduler::Usage::Amount& amount = view.state.usage().Days(tenant)->at(day);
    v1::UsageDay& row = *response.add_days();
    row.set_tenant(TenantName(tenant));
    row.mutable_day()->set_seconds(day * kDaySeconds);
    row.set_device_ms(amount.device_ms);
    row.set_tokens(amount.tokens);
    row.set_written_bytes(amount.written_bytes);
    row.set_cost(static_cast<double>(amount.device_ms) / kHourMs * view.options.device_hour_price);
  }
  if (shown < static_cast<int64_t>(keys.size())) {
    const UsageKey& last = keys[shown - 1];
    response.set_next_page_token(page.NextToken(absl::StrCat(last.day, "|", last.tenant)));
  }
  return response;
}

absl::StatusOr<v1::SetWorkerModeResponse> ShowWorkerMode(const CommittedView& view,
                                                         const std::string& worker) {
  v1::SetWorkerModeResponse response;
  response.set_mode(view.state.WorkerMode(worker));
  for (const std::string& job : view.state.JobsOn(worker)) {
    const scheduler::JobRecord& record = *view.state.FindJob(job);
    const bool is_leaving = record.current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED;
    response.set_leaving(response.leaving() + (is_leaving ? 1 : 0));
  }
  return response;
}

}  // namespace deltaworks::services
