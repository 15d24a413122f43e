#include "services/base/log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/base/json_escape.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {
namespace {

constexpr size_t kValueBytesMax = 16 << 10;

std::atomic<LogLevel> level_min{LogLevel::kInfo};

struct Sink {
  Mutex mutex;
  std::string service ABSL_GUARDED_BY(mutex);
  LogWriter writer ABSL_GUARDED_BY(mutex);
};

// Never destroyed: threads of libraries may log while the process ends.
Sink& GlobalSink() {
  static Sink* const sink = new Sink;
  return *sink;
}

void WriteToStderr(absl::string_view line) {
  while (!line.empty()) {
    const ssize_t count = write(STDERR_FILENO, line.data(), line.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // Nobody left to tell.
    line.remove_prefix(static_cast<size_t>(count));
  }
}

absl::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

absl::string_view Cut(absl::string_view value) { return value.substr(0, kValueBytesMax); }

}  // namespace

std::string FormatLogLine(absl::Time time, LogLevel level, absl::string_view service,
                          absl::string_view message, LogFields fields) {
  std::string line = absl::StrCat(
      "{\"time\":\"", absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone()),
      "\",\"level\":\"", LevelName(level), "\",\"service\":", JsonQuote(service),
      ",\"message\":", JsonQuote(Cut(message)));
  for (const LogField& field : fields) {
    absl::StrAppend(&line, ",", JsonQuote(field.key), ":");
    if (const auto* text = std::get_if<std::string>(&field.value)) {
      absl::StrAppend(&line, JsonQuote(Cut(*text)));
    } else if (const auto* integer = std::get_if<int64_t>(&field.value)) {
      absl::StrAppend(&line, *integer);
    } else {
      absl::StrAppend(&line, JsonNumber(std::get<double>(field.value)));
    }
  }
  absl::StrAppend(&line, "}\n");
  return line;
}

void Log(LogLevel level, absl::string_view message, LogFields fields) {
  if (!IsLogged(level)) return;
  Sink& sink = GlobalSink();
  MutexLock lock(&sink.mutex);
  const std::string line = FormatLogLine(absl::Now(), level, sink.service, message, fields);
  if (sink.writer != nullptr) {
    sink.writer(line);
  } else {
    WriteToStderr(line);
  }
}

void ConfigureLog(absl::string_view service, LogLevel new_level_min) {
  level_min = new_level_min;
  Sink& sink = GlobalSink();
  MutexLock lock(&sink.mutex);
  sink.service = std::string(service);
}

bool ParseLogLevel(absl::string_view name, LogLevel& level) {
  for (const LogLevel candidate :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (name == LevelName(candidate)) {
      level = candidate;
      return true;
    }
  }
  return false;
}

LogWriter SetLogWriter(LogWriter writer) {
  Sink& sink = GlobalSink();
  MutexLock lock(&sink.mutex);
  std::swap(sink.writer, writer);
  return writer;
}

bool IsLogged(LogLevel level) { return level >= level_min.load(std::memory_order_relaxed); }

}  // namespace deltaworks::services
