#include "services/cli/quota_commands.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/operator_error.h"
#include "services/cli/pages.h"
#include "services/cli/table.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kNoLimit[] = "none";

absl::StatusOr<v1::ListQuotasResponse> ListQuotas(OperatorClient& client, int64_t limit) {
  return ListAll(
      v1::ListQuotasRequest(), limit, [&](const auto& page) { return client.ListQuotas(page); },
      [](auto& response) { return response.mutable_quotas(); });
}

std::string LimitText(const v1::Quota& quota) {
  return quota.has_limit_devices() ? CountText(quota.limit_devices()) : kNoLimit;
}

std::string TenantText(const v1::Quota& quota) { return std::string(TenantOf(quota.name())); }

class QuotaSet final : public Command {
 public:
  std::string name() const override { return "quota set"; }
  std::string summary() const override { return "Set a tenant's share of the devices"; }
  std::string details() const override {
    return "What no flag says stays as it is; a tenant without a quota has weight 1, nothing "
           "guaranteed and no limit. It takes effect at the next plan and stops no job by itself. "
           "If somebody else changes the quota meanwhile nothing is set. Wants an operator's "
           "token.";
  }
  std::vector<std::string> examples() const override {
    return {"dw quota set team-a --weight 2", "dw quota set team-a --guaranteed 4 --limit 16",
            "dw quota set team-a --limit none"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("TENANT", &tenant_, "id or name of the tenant");
    arguments.Flag("weight", &weight_, "share among tenants that want devices, > 0").ValueName("W");
    arguments.Flag("guaranteed", &guaranteed_, "devices it gets before others get more")
        .ValueName("N");
    arguments.Flag("limit", &limit_, "devices its jobs may be on at the same time, or none")
        .ValueName("N|none");
    arguments.Flag("force", &force_,
                   "even if more is guaranteed to all than there are devices at present");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(const std::string tenant, TenantArgument("TENANT", tenant_));
    const std::string name = absl::StrCat(tenant, "/quota");
    // Before anything is asked: what is wrong with the flags.
    v1::Quota checked;
    DW_RETURN_IF_ERROR(Apply(checked));
    DW_ASSIGN_OR_RETURN(OperatorClient * client, context.platform.operators());
    DW_ASSIGN_OR_RETURN(const v1::ListQuotasResponse all, ListQuotas(*client, kListLimitMax));
    v1::SetQuotaRequest request;
    request.mutable_quota()->set_name(name);
    for (const v1::Quota& quota : all.quotas()) {
      if (quota.name() == name) *request.mutable_quota() = quota;
    }
    DW_RETURN_IF_ERROR(Apply(*request.mutable_quota()));
    request.set_force(force_);
    const absl::StatusOr<v1::Quota> quota = client->SetQuota(request);
    if (!quota.ok()) return OperatorError(quota.status());
    if (context.json()) return PrintJson(context, *quota), kExitOk;
    FactSheet facts;
    facts.Add("tenant", {TenantText(*quota), Paint::kBold});
    facts.Add("weight", absl::StrCat(quota->weight()));
    facts.Add("guaranteed", CountText(quota->guaranteed_devices()));
    facts.Add("limit", LimitText(*quota));
    facts.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  // The flags that were given.
  absl::Status Apply(v1::Quota& quota) const {
    if (!weight_ && !guaranteed_ && !limit_) {
      return absl::InvalidArgumentError(
          "nothing to set, want one of --weight, --guaranteed, --limit");
    }
    if (weight_) {
      // The service takes 0 for "not given".
      if (!(*weight_ > 0)) {
        return absl::InvalidArgumentError(absl::StrCat("--weight is ", *weight_, ", want > 0"));
      }
      quota.set_weight(*weight_);
    }
    if (guaranteed_) quota.set_guaranteed_devices(*guaranteed_);
    if (!limit_) return absl::OkStatus();
    int64_t limit = 0;
    if (*limit_ == kNoLimit) {
      quota.clear_limit_devices();
    } else if (absl::SimpleAtoi(*limit_, &limit) && limit >= 0) {
      quota.set_limit_devices(limit);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--limit is ", JsonQuote(*limit_), ", want an integer >= 0, or none"));
    }
    return absl::OkStatus();
  }

  std::string tenant_;
  std::optional<double> weight_;
  std::optional<int64_t> guaranteed_;
  std::optional<std::string> limit_;
  bool force_ = false;
};

class QuotaList final : public Command {
 public:
  std::string name() const override { return "quota list"; }
  std::string summary() const override { return "List the quotas that were set"; }
  std::string details() const override {
    return "Of all tenants with an operator's token, else of your own. A tenant that is not listed "
           "has weight 1, nothing guaranteed and no limit.";
  }
  std::vector<std::string> examples() const override {
    return {"dw quota list", "dw quota list --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(OperatorClient * client, context.platform.operators());
    DW_ASSIGN_OR_RETURN(const v1::ListQuotasResponse all, ListQuotas(*client, limit_));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table({"TENANT", ">WEIGHT", ">GUARANTEED", ">LIMIT"});
    for (const v1::Quota& quota : all.quotas()) {
      table.AddRow({TenantText(quota), absl::StrCat(quota.weight()),
                    CountText(quota.guaranteed_devices()), LimitText(quota)});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  int64_t limit_ = 1000;
};

}  // namespace

void AddQuotaCommands(CommandTable& table) {
  table.push_back(std::make_unique<QuotaSet>());
  table.push_back(std::make_unique<QuotaList>());
}

}  // namespace deltaworks::services
