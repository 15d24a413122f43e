// Log: one JSON object per line on stderr, for people's jq and for every log collector.
//
//   {"time":"2024-01-01T00:00:00.123456Z","level":"info","service":"store","message":"dataset
//    created","job":"tenants/default/jobs/j1","request_id":"4f..."}
//
//   LogInfo("dataset created", {{"name", name}, {"request_id", id}});
//
// Field names used by all services: job, attempt, worker, request_id, name, tenant, digest, method,
// code, error. Never log a token or the text of a dataset. Lines of glog (CHECK) and gRPC take the
// same form once library_logs.h was used. A line is one write(2), so that processes sharing a pipe
// do not mix theirs; more than 16 KiB of a value is cut.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_LOG_H_
#define DELTAWORKS_SERVICES_BASE_LOG_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace deltaworks::services {

enum class LogLevel { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

struct LogField {
  LogField(absl::string_view key, absl::string_view value) : key(key), value(std::string(value)) {}
  LogField(absl::string_view key, const char* value) : key(key), value(std::string(value)) {}
  LogField(absl::string_view key, const std::string& value) : key(key), value(value) {}
  LogField(absl::string_view key, const absl::Status& value) : key(key), value(value.ToString()) {}
  LogField(absl::string_view key, int64_t value) : key(key), value(value) {}
  LogField(absl::string_view key, int value) : key(key), value(int64_t{value}) {}
  LogField(absl::string_view key, double value) : key(key), value(value) {}

  absl::string_view key;
  std::variant<std::string, int64_t, double> value;
};
using LogFields = std::initializer_list<LogField>;

void Log(LogLevel level, absl::string_view message, LogFields fields = {});

inline void LogDebug(absl::string_view message, LogFields fields = {}) {
  Log(LogLevel::kDebug, message, fields);
}
inline void LogInfo(absl::string_view message, LogFields fields = {}) {
  Log(LogLevel::kInfo, message, fields);
}
inline void LogWarning(absl::string_view message, LogFields fields = {}) {
  Log(LogLevel::kWarning, message, fields);
}
inline void LogError(absl::string_view message, LogFields fields = {}) {
  Log(LogLevel::kError, message, fields);
}

// Sets the `service` field and the lowest level written (default: none, kInfo).
void ConfigureLog(absl::string_view service, LogLevel level_min);

// "debug", "info", "warning", "error". False if `name` is another word.
bool ParseLogLevel(absl::string_view name, LogLevel& level);

// Whether a line of `level` would be written.
bool IsLogged(LogLevel level);

// Replaces the writer (default: stderr) and returns the one before; for tests.
using LogWriter = std::function<void(absl::string_view line)>;
LogWriter SetLogWriter(LogWriter writer);

// The line Log() would write, newline included.
std::string FormatLogLine(absl::Time time, LogLevel level, absl::string_view service,
                          absl::string_view message, LogFields fields);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_LOG_H_
