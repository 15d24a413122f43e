#include "services/cli/timing_flags.h"

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/proto_time.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kNone[] = "none";

absl::Status Bad(absl::string_view flag, absl::string_view got, absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is \"", absl::CHexEscape(got.substr(0, 100)), "\", want ", want));
}

// "2026-12-01T08:00:00Z" or "+90m".
absl::StatusOr<absl::Time> ParseMoment(absl::string_view flag, absl::string_view text,
                                       absl::Time now) {
  absl::string_view later = text;
  absl::Duration duration;
  if (absl::ConsumePrefix(&later, "+") && absl::ParseDuration(later, &duration) &&
      duration >= absl::ZeroDuration() && duration < absl::InfiniteDuration()) {
    return now + duration;
  }
  absl::Time time;
  std::string error;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, &error) && time > absl::InfinitePast() &&
      time < absl::InfiniteFuture()) {
    return time;
  }
  return Bad(flag, text, "a time as 2026-12-01T08:00:00Z, a duration from now as +90m, or none");
}

}  // namespace

void TimingFlags::Declare(Arguments& arguments) {
  arguments
      .Flag("start_after", &start_after_,
            "not before: 2026-12-01T08:00:00Z, or +2h from now (default: at once)")
      .ValueName("TIME");
  arguments.Flag("deadline", &deadline_, "fail if there is no result by then; as start_after")
      .ValueName("TIME");
  arguments
      .Flag("time_limit", &time_limit_,
            "device time that it may use, all attempts together: 90m (default: any)")
      .ValueName("DURATION");
}

absl::Status TimingFlags::Apply(absl::Time now, v1::Timing& timing) const {
  if (start_after_ == kNone) {
    timing.clear_start_after();
  } else if (!start_after_.empty()) {
    DW_ASSIGN_OR_RETURN(const absl::Time time, ParseMoment("start_after", start_after_, now));
    *timing.mutable_start_after() = scheduler::ToProto(time);
  }
  if (deadline_ == kNone) {
    timing.clear_deadline();
  } else if (!deadline_.empty()) {
    DW_ASSIGN_OR_RETURN(const absl::Time time, ParseMoment("deadline", deadline_, now));
    *timing.mutable_deadline() = scheduler::ToProto(time);
  }
  if (time_limit_ == kNone) {
    timing.clear_time_limit();
  } else if (!time_limit_.empty()) {
    absl::Duration limit;
    if (!absl::ParseDuration(time_limit_, &limit) || limit <= absl::ZeroDuration() ||
        limit == absl::InfiniteDuration()) {
      return Bad("time_limit", time_limit_, "a duration as 90m, more than 0, or none");
    }
    *timing.mutable_time_limit() = scheduler::ToProto(limit);
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
