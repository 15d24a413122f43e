#include "services/cli/usage_command.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/operator_error.h"
#include "services/cli/pages.h"
#include "services/cli/table.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kDaysDefault = 30;
// The scheduler keeps no more.
constexpr int64_t kDaysMax = 400;
constexpr double kHourMs = 3'600'000;

std::string DayText(const v1::UsageDay& row) {
  return absl::FormatTime("%Y-%m-%d", ToTime(row.day()), absl::UTCTimeZone());
}

class Usage final : public Command {
 public:
  std::string name() const override { return "usage"; }
  std::string summary() const override {
    return "Show what tenants used, by day: device time, tokens, cost";
  }
  std::string details() const override {
    return "Days are UTC, newest first. Jobs that train together on a device share its time, so "
           "the sum over all tenants is the time that devices worked. Other tenants' usage wants "
           "an operator's token; without one you see your own. A table rounds; --output json has "
           "milliseconds.";
  }
  std::vector<std::string> examples() const override {
    return {"dw usage", "dw usage --all_tenants --days 7",
            "dw usage --tenant team-a --since 2026-11-01 --price_per_device_hour 2.40"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("all_tenants", &all_tenants_, "every tenant, not that of --tenant alone");
    arguments.Flag("days", &days_, "so many days, today's the last (default 30)").ValueName("N");
    arguments.Flag("since", &since_, "from this day on, instead of --days").ValueName("YYYY-MM-DD");
    arguments.Flag("price_per_device_hour", &price_, "adds what it costs").ValueName("X");
    arguments.Flag("limit", &limit_, "most rows (default 10000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    if (price_ && !(*price_ >= 0 && std::isfinite(*price_))) {
      return absl::InvalidArgumentError(
          absl::StrCat("--price_per_device_hour is ", *price_, ", want >= 0"));
    }
    v1::ListUsageRequest request;
    request.set_parent(all_tenants_ ? "tenants/-" : ParentName(context));
    DW_ASSIGN_OR_RETURN(const int64_t first_day, FirstDay(context));
    request.set_first_day(first_day);
    DW_ASSIGN_OR_RETURN(OperatorClient * client, context.platform.operators());
    const absl::StatusOr<v1::ListUsageResponse> all = ListAll(
        request, limit_, [&](const auto& page) { return client->ListUsage(page); },
        [](auto& response) { return response.mutable_days(); });
    if (!all.ok()) return OperatorError(all.status());
    if (context.json()) return PrintDocument(context, *all);
    PrintTable(context, *all);
    if (!all->next_page_token().empty()) {
      context.err << "There is more: raise --limit, " << limit_ << "\n";
    }
    return kExitOk;
  }

 private:
  absl::StatusOr<int64_t> FirstDay(const CommandContext& context) const;
  double Cost(int64_t device_ms) const {
    return static_cast<double>(device_ms) / kHourMs * price_.value_or(0);
  }
  absl::StatusOr<int> PrintDocument(CommandContext& context,
                                    const v1::ListUsageResponse& usage) const;
  void PrintTable(CommandContext& context, const v1::ListUsageResponse& usage) const;
  void AddRow(Table& table, const std::string& day, const std::string& tenant, int64_t device_ms,
              int64_t tokens) const;

  bool all_tenants_ = false;
  std::optional<int64_t> days_;
  std::string since_;
  std::optional<double> price_;
  int64_t limit_ = 10'000;
};

absl::StatusOr<int64_t> Usage::FirstDay(const CommandContext& context) const {
  const absl::CivilDay epoch(1970, 1, 1);
  if (!since_.empty()) {
    if (days_) return absl::InvalidArgumentError("--days and --since are given, want one of them");
    absl::CivilDay day;
    if (!absl::ParseCivilTime(since_, &day) || day < epoch) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--since is ", JsonQuote(since_), ", want a day since 1970-01-01 as YYYY-MM-DD"));
    }
    return day - epoch;
  }
  const int64_t days = days_.value_or(kDaysDefault);
  if (days < 1 || days > kDaysMax) {
    return absl::InvalidArgumentError(absl::StrCat("--days is ", days, ", want 1..", kDaysMax));
  }
  const absl::CivilDay today = absl::ToCivilDay(context.clock.Now(), absl::UTCTimeZone());
  return std::max<int64_t>(today - epoch - (days - 1), 0);
}

absl::StatusOr<int> Usage::PrintDocument(CommandContext& context,
                                         const v1::ListUsageResponse& usage) const {
  if (!price_) return PrintJson(context, usage), kExitOk;
  DW_ASSIGN_OR_RETURN(Json document, ParseJson(MessageJson(usage), "usage"));
  for (int i = 0; i < usage.days_size(); ++i) {
    document["days"][i]["cost"] = Cost(usage.days(i).device_ms());
  }
  context.out << JsonText(document, 1) << "\n";
  return kExitOk;
}

void Usage::AddRow(Table& table, const std::string& day, const std::string& tenant,
                   int64_t device_ms, int64_t tokens) const {
  std::vector<Cell> row = {day, tenant, DurationText(absl::Milliseconds(device_ms)),
                           CountText(tokens)};
  if (price_) row.emplace_back(absl::StrFormat("%.2f", Cost(device_ms)));
  table.AddRow(std::move(row));
}

void Usage::PrintTable(CommandContext& context, const v1::ListUsageResponse& usage) const {
  std::vector<std::string> headers = {"DAY", "TENANT", ">DEVICE TIME", ">TOKENS"};
  if (price_) headers.emplace_back(">COST");
  Table table(std::move(headers));
  int64_t device_ms = 0, tokens = 0;
  for (const v1::UsageDay& row : usage.days()) {
    AddRow(table, DayText(row), ShortName(row.tenant()), row.device_ms(), row.tokens());
    device_ms += row.device_ms();
    tokens += row.tokens();
  }
  AddRow(table, "total", "", device_ms, tokens);
  table.Print(context.out, context.color);
}

}  // namespace

std::unique_ptr<Command> MakeUsage() { return std::make_unique<Usage>(); }

}  // namespace deltaworks::services
