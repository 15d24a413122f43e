#include "services/base/service_main.h"

#include <signal.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/flags.h"
#include "services/base/library_logs.h"
#include "services/base/log.h"
#include "services/base/metrics.h"
#include "services/base/server.h"
#include "services/base/stop_signal.h"
#include "services/base/token_file.h"
#include "services/base/version.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

struct CommonFlags {
  std::string address = "127.0.0.1:0";
  std::string port_file;
  std::string metrics_address = "127.0.0.1:0";
  std::string metrics_port_file;
  std::string tokens_file;
  std::string log_level = "info";
  absl::Duration stop_deadline = absl::Seconds(10);

  void AddTo(FlagSet& flags) {
    flags.Add("address", &address, "HOST:PORT of gRPC, loopback; port 0 takes a free one");
    flags.Add("port_file", &port_file, "gets the port of gRPC, once calls are answered");
    flags.Add("metrics_address", &metrics_address, "HOST:PORT of /metrics; empty: none");
    flags.Add("metrics_port_file", &metrics_port_file, "gets the port of /metrics");
    flags.Add("tokens_file", &tokens_file,
              "mode 0600, lines \"sha256:DIGEST TENANT\"; without it only health and reflection "
              "are answered");
    flags.Add("log_level", &log_level, "lowest level logged: debug, info, warning or error");
    flags.Add("stop_deadline", &stop_deadline,
              "time that calls under way get to end, after SIGTERM");
  }
};

absl::Status WritePort(const std::string& path, int port) {
  return path.empty() ? absl::OkStatus() : WriteFileAtomically(path, absl::StrCat(port, "\n"));
}

// Wrong settings need a person; everything else may pass.
int ExitCodeOf(const absl::Status& status) {
  const bool settings = absl::IsInvalidArgument(status) || absl::IsPermissionDenied(status);
  return settings ? kExitUsage : kExitCannotStart;
}

int Refuse(const absl::Status& status) {
  LogError("cannot start", {{"error", status}});
  return ExitCodeOf(status);
}

// From Start() to Stop(), with everything that a program needs already there.
class Run {
 public:
  Run(ServiceProgram& program, const CommonFlags& flags, StopSignal& stop, TokenFile* tokens)
      : program_(program),
        flags_(flags),
        stop_(stop),
        metrics_(program.name()),
        authenticator_(tokens, metrics_) {}

  // Returns the exit code.
  int Execute() {
    if (absl::Status status = ServeMetrics(); !status.ok()) return Refuse(status);
    const ServiceEnvironment environment = {
        RealClock(), metrics_, authenticator_,
        [this](absl::Status reason) { stop_.Request(std::move(reason)); }};
    if (absl::Status status = program_.Start(environment); !status.ok()) return Refuse(status);
    absl::Status status = Listen();
    int exit_code = kExitStopped;
    if (status.ok()) {
      status = WaitAndDrain();
      if (!status.ok()) exit_code = kExitFailed;
    } else {
      exit_code = Refuse(status);
    }
    server_.reset();
    program_.Stop();
    LogInfo("stopped", {{"exit_code", exit_code}});
    return exit_code;
  }

 private:
  absl::Status ServeMetrics() {
    if (flags_.metrics_address.empty()) return absl::OkStatus();
    DW_ASSIGN_OR_RETURN(const int port, metrics_.Serve(flags_.metrics_address));
    metrics_port_ = port;
    return WritePort(flags_.metrics_port_file, port);
  }

  absl::Status Listen() {
    DW_ASSIGN_OR_RETURN(server_, Server::Start({.address = flags_.address}, authenticator_,
                                               metrics_, RealClock(), program_.services()));
    program_.Serving(server_->address());
    server_->SetServing(true);
    LogInfo("serving", {{"address", server_->address()},
                        {"metrics_port", metrics_port_},
                        {"version", BuildVersion()}});
    return WritePort(flags_.port_file, server_->port());
  }

  absl::Status WaitAndDrain() {
    const absl::Status reason = stop_.Wait();
    LogInfo("stopping", {{"error", reason}});
    server_->SetServing(false);
    program_.Drain(flags_.stop_deadline);
    server_->Stop(flags_.stop_deadline);
    return reason;
  }

  ServiceProgram& program_;
  const CommonFlags& flags_;
  StopSignal& stop_;
  Metrics metrics_;
  Authenticator authenticator_;
  int metrics_port_ = 0;
  std::unique_ptr<Server> server_;
};

}  // namespace

int ServiceMain(int argc, char** argv, ServiceProgram& program) {
  // A reader that went away is an error of its write, not the end of the process.
  signal(SIGPIPE, SIG_IGN);
  StopSignal stop;
  ConfigureLog(program.name(), LogLevel::kInfo);
  RouteLibraryLogs(argv[0]);

  CommonFlags common;
  FlagSet flags(program.name(), program.description());
  common.AddTo(flags);
  program.AddFlags(flags);
  const absl::StatusOr<bool> parsed = flags.Parse(argc, argv);
  if (!parsed.ok()) return Refuse(parsed.status());
  if (!*parsed) {
    std::fputs(flags.output().c_str(), stdout);
    return kExitStopped;
  }
  LogLevel level = LogLevel::kInfo;
  if (!ParseLogLevel(common.log_level, level)) {
    return Refuse(absl::InvalidArgumentError(
        absl::StrCat("--log_level is ", common.log_level, ", want debug, info, warning or error")));
  }
  ConfigureLog(program.name(), level);

  std::unique_ptr<TokenFile> tokens;
  if (!common.tokens_file.empty()) {
    auto opened = TokenFile::Open(common.tokens_file);
    if (!opened.ok()) return Refuse(opened.status());
    tokens = *std::move(opened);
  }
  return Run(program, common, stop, tokens.get()).Execute();
}

}  // namespace deltaworks::services
