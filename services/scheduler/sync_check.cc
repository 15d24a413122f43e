#include "services/scheduler/sync_check.h"

#include <cmath>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kMetricsMax = 4096;
constexpr int64_t kLogsMax = 256;
constexpr int64_t kLabelsMax = 64;
constexpr int64_t kBasesMax = 1000;
constexpr int64_t kTextBytesMax = 256;
constexpr int64_t kSizeBytesMax = int64_t{1} << 40;

absl::Status Bad(absl::string_view what, absl::string_view got, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", got, ", want ", want));
}

absl::Status CheckAtLeast(absl::string_view what, int64_t got, int64_t least) {
  return got >= least ? absl::OkStatus() : Bad(what, absl::StrCat(got), absl::StrCat(">= ", least));
}

// They are added up, and the store takes no larger blob.
absl::Status CheckSize(absl::string_view what, int64_t got) {
  if (got >= 0 && got <= kSizeBytesMax) return absl::OkStatus();
  return Bad(what, absl::StrCat(got), absl::StrCat("0..", kSizeBytesMax));
}

absl::Status CheckCount(absl::string_view what, int64_t got, int64_t most) {
  if (got <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has ", got, " entries, want at most ", most));
}

absl::Status CheckShort(absl::string_view what, const std::string& text) {
  if (static_cast<int64_t>(text.size()) <= kTextBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has ", text.size(), " bytes, want at most ", kTextBytesMax));
}

absl::Status CheckEnvironment(const v1::WorkerEnvironment& environment) {
  DW_RETURN_IF_ERROR(CheckShort("environment.numerics_class", environment.numerics_class()));
  DW_RETURN_IF_ERROR(CheckShort("environment.device", environment.device()));
  DW_RETURN_IF_ERROR(CheckShort("environment.device_kind", environment.device_kind()));
  DW_RETURN_IF_ERROR(
      CheckShort("environment.device_description", environment.device_description()));
  DW_RETURN_IF_ERROR(CheckShort("environment.build_version", environment.build_version()));
  DW_RETURN_IF_ERROR(CheckAtLeast("environment.memory_bytes", environment.memory_bytes(), 0));
  DW_RETURN_IF_ERROR(CheckAtLeast("environment.gang_size_max", environment.gang_size_max(), 0));
  DW_RETURN_IF_ERROR(CheckShort("environment.gang_address", environment.gang_address()));
  if (environment.gang_size_max() > 1 && environment.gang_address().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment.gang_address is empty, want HOST:PORT, since gang_size_max is ",
                     environment.gang_size_max()));
  }
  DW_RETURN_IF_ERROR(CheckCount("environment.labels", environment.labels_size(), kLabelsMax));
  for (const auto& [key, value] : environment.labels()) {
    DW_RETURN_IF_ERROR(CheckShort("environment.labels: a key", key));
    DW_RETURN_IF_ERROR(CheckShort("environment.labels: a value", value));
  }
  DW_RETURN_IF_ERROR(
      CheckCount("environment.bases_cached", environment.bases_cached_size(), kBasesMax));
  for (const std::string& digest : environment.bases_cached()) {
    DW_RETURN_IF_ERROR(CheckDigest("environment.bases_cached", digest));
  }
  return absl::OkStatus();
}

absl::Status CheckMetrics(absl::string_view what, const v1::AttemptReport& report) {
  DW_RETURN_IF_ERROR(
      CheckCount(absl::StrCat(what, ".metrics"), report.metrics_size(), kMetricsMax));
  DW_RETURN_IF_ERROR(CheckCount(absl::StrCat(what, ".logs"), report.logs_size(), kLogsMax));
  if (report.metrics_size() > 0) {
    DW_RETURN_IF_ERROR(
        CheckAtLeast(absl::StrCat(what, ".first_metric_n"), report.first_metric_n(), 1));
  }
  if (report.logs_size() > 0) {
    DW_RETURN_IF_ERROR(CheckAtLeast(absl::StrCat(what, ".first_log_n"), report.first_log_n(), 1));
  }
  for (const v1::MetricPoint& point : report.metrics()) {
    if (point.step() >= 0) continue;  // No text for each of thousands.
    return CheckAtLeast(absl::StrCat(what, ".metrics.step"), point.step(), 0);
  }
  return absl::OkStatus();
}

absl::Status CheckAttempt(absl::string_view what, const v1::AttemptReport& report) {
  DW_RETURN_IF_ERROR(ParseName(absl::StrCat(what, ".job"), report.job(), kJobPattern).status());
  DW_RETURN_IF_ERROR(CheckAtLeast(absl::StrCat(what, ".lease_epoch"), report.lease_epoch(), 1));
  if (report.attempt_id().empty()) {
    return Bad(absl::StrCat(what, ".attempt_id"), "empty", "that of an assignment");
  }
  DW_RETURN_IF_ERROR(CheckShort(absl::StrCat(what, ".attempt_id"), report.attempt_id()));
  if (report.phase() == v1::AttemptReport::PHASE_UNSPECIFIED ||
      !v1::AttemptReport::Phase_IsValid(report.phase())) {
    return Bad(absl::StrCat(what, ".phase"), absl::StrCat(static_cast<int>(report.phase())),
               "PREPARING .. DONE");
  }
  DW_RETURN_IF_ERROR(CheckAtLeast(absl::StrCat(what, ".step"), report.step(), 0));
  if (!std::isfinite(report.tokens_per_second()) || report.tokens_per_second() < 0) {
    return Bad(absl::StrCat(what, ".tokens_per_second"), JsonNumber(report.tokens_per_second()),
               "a finite number >= 0");
  }
  DW_RETURN_IF_ERROR(
      CheckSize(absl::StrCat(what, ".checkpoint.size_bytes"), report.checkpoint().size_bytes()));
  DW_RETURN_IF_ERROR(
      CheckSize(absl::StrCat(what, ".result.size_bytes"), report.result().size_bytes()));
  return CheckMetrics(what, report);
}

}  // namespace

absl::Status CheckSync(const v1::SyncRequest& report) {
  DW_RETURN_IF_ERROR(ParseName("worker", report.worker(), kWorkerPattern).status());
  DW_RETURN_IF_ERROR(CheckAtLeast("incarnation", report.incarnation(), 1));
  DW_RETURN_IF_ERROR(CheckAtLeast("report_number", report.report_number(), 1));
  DW_RETURN_IF_ERROR(CheckEnvironment(report.environment()));
  DW_RETURN_IF_ERROR(CheckCount("attempts", report.attempts_size(), kSyncAttemptsMax));
  absl::flat_hash_set<std::string> ids;
  for (int i = 0; i < report.attempts_size(); ++i) {
    const std::string what = absl::StrCat("attempts[", i, "]");
    DW_RETURN_IF_ERROR(CheckAttempt(what, report.attempts(i)));
    if (!ids.insert(report.attempts(i).attempt_id()).second) {
      return Bad(absl::StrCat(what, ".attempt_id"), "there twice", "each attempt once");
    }
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
