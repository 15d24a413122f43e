#include "services/base/library_logs.h"

#include <grpc/support/log.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "services/base/log.h"

namespace deltaworks::services {
namespace {

class GlogSink final : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char*, const char* base_name, int line,
            const google::LogMessageTime&, const char* message, size_t size) override {
    LogLevel level = LogLevel::kInfo;
    if (severity == google::GLOG_WARNING) level = LogLevel::kWarning;
    if (severity >= google::GLOG_ERROR) level = LogLevel::kError;
    Log(level, absl::string_view(message, size), {{"source", absl::StrCat(base_name, ":", line)}});
  }
};

void GrpcLog(gpr_log_func_args* args) {
  const LogLevel level =
      args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  if (!IsLogged(level)) return;
  absl::string_view file = args->file;
  if (const size_t slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
  Log(level, args->message, {{"source", absl::StrCat("grpc ", file, ":", args->line)}});
}

}  // namespace

void RouteLibraryLogs(const char* program) {
  // An empty destination: no files. A threshold above FATAL: nothing but our sink writes.
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
    google::SetLogDestination(severity, "");
  }
  FLAGS_logtostderr = false;
  FLAGS_stderrthreshold = google::NUM_SEVERITIES;
  if (!google::IsGoogleLoggingInitialized()) google::InitGoogleLogging(program);
  static GlogSink* const sink = new GlogSink;
  google::AddLogSink(sink);
  gpr_set_log_function(GrpcLog);
  gpr_set_log_verbosity(IsLogged(LogLevel::kDebug) ? GPR_LOG_SEVERITY_INFO
                                                   : GPR_LOG_SEVERITY_ERROR);
}

}  // namespace deltaworks::services
