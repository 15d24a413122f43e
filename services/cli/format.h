// How `dw` shows numbers, times and sizes to people. Programs get protobuf JSON instead
// (json_output.h), where nothing is rounded. Pure functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_FORMAT_H_
#define DELTAWORKS_SERVICES_CLI_FORMAT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "google/protobuf/timestamp.pb.h"

namespace deltaworks::services {

// "134,515,008".
std::string CountText(int64_t count);
// "93.4 MB", decimal units; "0 B".
std::string BytesText(int64_t bytes);
// Two units at most, rounded down: "4.2 s", "2 min 5 s", "3 h 10 min", "2 d 4 h".
std::string DurationText(absl::Duration duration);
// "3 min ago"; "-" for a time that was never set.
std::string AgeText(absl::Time time, absl::Time now);
// "2026-11-26 07:15:02" in the local time zone; "-" if never set.
std::string TimeText(absl::Time time);
// Four places after the point: "2.5712"; "-" for NaN.
std::string LossText(double value);
// Share of `total`: "0.85 %", with two significant places below 1 %; "-" if total is 0.
std::string PercentText(int64_t part, int64_t total);

// InfinitePast for a message that was never set.
absl::Time ToTime(const google::protobuf::Timestamp& timestamp);

// Character cells that `text` (UTF-8, no escapes) takes on a terminal, one per code point.
int64_t DisplayWidth(absl::string_view text);
// At most `width` cells, the last of them an ellipsis where something was cut.
std::string CutToWidth(absl::string_view text, int64_t width);

// One of eight block heights for each of `width` buckets of equal length, their means scaled
// between the least and the greatest: "█▆▄▃▂▁". Fewer values than `width` give one block each.
// Values that are not finite are left out; without any, it is empty.
std::string Sparkline(absl::Span<const double> values, int64_t width);

// "████████░░░░" of `width` cells for a share in [0, 1].
std::string ProgressBar(double share, int64_t width);

// The last part of a resource name: "job-7" of "tenants/default/jobs/job-7".
std::string ShortName(absl::string_view name);
// The id with its version or alias: "notes/3" of ".../adapters/notes/versions/3".
std::string ShortVersion(absl::string_view name);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_FORMAT_H_
