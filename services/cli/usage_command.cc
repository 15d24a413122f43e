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
    return "Show what tenants used, by day: device time, tokens, bytes written, cost";
  }
  std::string details() const override {
    return "Days are UTC, newest first. Jobs that train together on a device share its time, so "
           "the sum over all tenants is the time that devices worked. Other tenants' usage wants "
           "an operator's token; without one you see your own. Written are checkpoints and "
           "adapters. Costs are at the scheduler's price (its --device_hour_price), or at one you "
           "name. A table rounds; --output json has milliseconds and bytes.";
  }
  std::vector<std::string> examples() const override {
    return {"dw usage", "dw usage --all_tenants --days 7",
            "dw usage --tenant team-a --since 2026-11-01 --price_per_device_hour 2.40"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("all_tenants", &all_tenants_, "every tenant, not that of --tenant alone");
    arguments.Flag("days", &days_, "so many days, today's the last (default 30)").ValueName("N");
    arguments.Flag("since", &since_, "from this day on, instead of --days").ValueName("YYYY-MM-DD");
    arguments.Flag("price_per_device_hour", &price_, "costs at this price, not at the scheduler's")
        .ValueName("X");
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
    absl::StatusOr<v1::ListUsageResponse> all = ListAll(
        request, limit_, [&](const auto& page) { return client->ListUsage(page); },
        [](auto& response) { return response.mutable_days(); });
    if (!all.ok()) return OperatorError(all.status());
    if (price_) {
      for (v1::UsageDay& row : *all->mutable_days()) {
        row.set_cost(static_cast<double>(row.device_ms()) / kHourMs * *price_);
      }
    }
    if (context.json()) return PrintJson(context, *all), kExitOk;
    PrintTable(context, *all);
    if (!all->next_page_token().empty()) {
      context.err << "There is more: raise --limit, " << limit_ << "\n";
    }
    return kExitOk;
  }

 private:
  absl::StatusOr<int64_t> FirstDay(const CommandContext& context) const;
  void PrintTable(CommandContext& context, const v1::ListUsageResponse& usage) const;

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

void Usage::PrintTable(CommandContext& context, const v1::ListUsageResponse& usage) const {
  const bool costs = price_ || std::any_of(usage.days().begin(), usage.days().end(),
                                           [](const auto& row) { return row.cost() > 0; });
  std::vector<std::string> headers = {"DAY", "TENANT", ">DEVICE TIME", ">TOKENS", ">WRITTEN"};
  if (costs) headers.emplace_back(">COST");
  Table table(std::move(headers));
  const auto add = [&](const std::string& day, const v1::UsageDay& row) {
    std::vector<Cell> cells = {day, ShortName(row.tenant()),
                               DurationText(absl::Milliseconds(row.device_ms())),
                               CountText(row.tokens()), BytesText(row.written_bytes())};
    if (costs) cells.emplace_back(absl::StrFormat("%.2f", row.cost()));
    table.AddRow(std::move(cells));
  };
  v1::UsageDay total;
  for (const v1::UsageDay& row : usage.days()) {
    add(DayText(row), row);
    total.set_device_ms(total.device_ms() + row.device_ms());
    total.set_tokens(total.tokens() + row.tokens());
    total.set_written_bytes(total.written_bytes() + row.written_bytes());
    total.set_cost(total.cost() + row.cost());
  }
  add("total", total);
  table.Print(context.out, context.color);
}

}  // namespace

std::unique_ptr<Command> MakeUsage() { return std::make_unique<Usage>(); }

}  // namespace deltaworks::services
