#include "services/cli/format.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "scheduler/proto_time.h"

namespace deltaworks::services {
namespace {

constexpr const char* kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr int64_t kBlockCount = 8;

bool BeginsCodePoint(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

std::vector<double> Finite(absl::Span<const double> values) {
  std::vector<double> finite;
  for (const double value : values) {
    if (std::isfinite(value)) finite.push_back(value);
  }
  return finite;
}

}  // namespace

std::string CountText(int64_t count) {
  const std::string digits = absl::StrCat(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool after_digit = i > 0 && digits[i - 1] != '-';
    if (after_digit && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string BytesText(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  // 999.95 and more would be written with four digits.
  while (std::abs(value) >= (unit == 0 ? 1000 : 999.95) && unit < 6) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, value, kUnits[unit]);
}

std::string DurationText(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) return absl::StrCat("-", DurationText(-duration));
  if (duration < absl::Seconds(10)) {
    return absl::StrFormat("%.1f s", std::floor(absl::ToDoubleSeconds(duration) * 10) / 10);
  }
  const int64_t seconds = absl::ToInt64Seconds(duration);
  const int64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
  if (minutes == 0) return absl::StrCat(seconds, " s");
  if (hours == 0) return absl::StrCat(minutes, " min ", seconds % 60, " s");
  if (days == 0) return absl::StrCat(hours, " h ", minutes % 60, " min");
  return absl::StrCat(days, " d ", hours % 24, " h");
}

std::string AgeText(absl::Time time, absl::Time now) {
  if (time == absl::InfinitePast()) return "-";
  const absl::Duration age = std::max(now - time, absl::ZeroDuration());
  if (age < absl::Seconds(1)) return "now";
  const int64_t seconds = absl::ToInt64Seconds(age);
  if (seconds < 60) return absl::StrCat(seconds, " s ago");
  if (seconds < 3600) return absl::StrCat(seconds / 60, " min ago");
  if (seconds < 86'400) return absl::StrCat(seconds / 3600, " h ago");
  return absl::StrCat(seconds / 86'400, " d ago");
}

std::string TimeText(absl::Time time) {
  if (time == absl::InfinitePast()) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", time, absl::LocalTimeZone());
}

std::string LossText(double value) {
  return std::isnan(value) ? "-" : absl::StrFormat("%.4f", value);
}

std::string PercentText(int64_t part, int64_t total) {
  if (total == 0) return "-";
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(total);
  if (percent == 0 || percent >= 10) return absl::StrFormat("%.1f %%", percent);
  return absl::StrFormat(percent >= 1 ? "%.2f %%" : "%.2g %%", percent);
}

absl::Time ToTime(const google::protobuf::Timestamp& timestamp) {
  if (timestamp.seconds() == 0 && timestamp.nanos() == 0) return absl::InfinitePast();
  return scheduler::FromProto(timestamp);
}

int64_t DisplayWidth(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), BeginsCodePoint);
}

std::string CutToWidth(absl::string_view text, int64_t width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  if (width < 1) return "";
  size_t end = 0;
  for (int64_t cells = 0; end < text.size(); ++end) {
    if (BeginsCodePoint(text[end]) && cells++ == width - 1) break;
  }
  return absl::StrCat(text.substr(0, end), "…");
}

std::string Sparkline(absl::Span<const double> values, int64_t width) {
  const std::vector<double> finite = Finite(values);
  const int64_t count = static_cast<int64_t>(finite.size());
  const int64_t buckets = std::min(width, count);
  if (buckets < 1) return "";
  std::vector<double> means;
  for (int64_t bucket = 0; bucket < buckets; ++bucket) {
    const int64_t begin = bucket * count / buckets, end = (bucket + 1) * count / buckets;
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += finite[i];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  const auto [least, greatest] = std::minmax_element(means.begin(), means.end());
  const double low = *least, range = *greatest - *least;
  std::string line;
  for (const double mean : means) {
    const double height = range > 0 ? (mean - low) / range : 0.5;
    const int64_t block = std::lround(height * static_cast<double>(kBlockCount - 1));
    line += kBlocks[std::clamp<int64_t>(block, 0, kBlockCount - 1)];
  }
  return line;
}

std::string ProgressBar(double share, int64_t width) {
  const double clamped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0;
  const int64_t filled = static_cast<int64_t>(clamped * static_cast<double>(width));
  std::string bar;
  for (int64_t cell = 0; cell < width; ++cell) bar += cell < filled ? "█" : "░";
  return bar;
}

std::string ShortName(absl::string_view name) {
  const size_t slash = name.rfind('/');
  return std::string(slash == absl::string_view::npos ? name : name.substr(slash + 1));
}

std::string ShortVersion(absl::string_view name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  if (parts.size() != 6) return std::string(name);
  return absl::StrCat(parts[3], parts[4] == "aliases" ? "@" : "/", parts[5]);
}

}  // namespace deltaworks::services
