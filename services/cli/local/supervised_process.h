// SupervisedProcess: one process of the platform, from its start to its last restart.
//
//   waiting -> starting -> up -> restarting -> starting ...
//                  \------------> failed (before it was ever up, or wrong settings)
//   any -> stopped
//
// It is up when it has written its port files and says SERVING. The ports that it took first are
// its for good: others know them. Whoever owns it calls Turn() again and again; nothing here waits
// except check_health. One thread, which must outlive the process (child_process.h).

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_SUPERVISED_PROCESS_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_SUPERVISED_PROCESS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/cli/local/child_process.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/platform_state.h"
#include "services/cli/local/process_plan.h"
#include "services/cli/local/restart_policy.h"
#include "services/cli/local/rotating_log.h"

namespace deltaworks::services {

// OK if the server at `address` says that it serves. Returns within about a second.
using HealthCheck = std::function<absl::Status(const std::string& address)>;
// By name of process.
using Addresses = std::map<std::string, std::string>;

// In the line that the supervisor writes into a process' log at each start.
inline constexpr absl::string_view kStartMark = "process starts";

class SupervisedProcess {
 public:
  struct Settings {
    RestartPolicy::Options restart;
    // From a start to being up; a process that needs longer is killed.
    absl::Duration start_timeout = absl::Seconds(60);
    int inherited_fd = -1;
    HealthCheck check_health;
  };

  // `clock` must outlive it.
  SupervisedProcess(ProcessSpec spec, const PlatformLayout& layout, const Settings& settings,
                    const Clock& clock);

  // From waiting.
  void Start(const Addresses& addresses);
  // Moves output to the log, notes an end, looks at health, starts again when it is time.
  void Turn(const Addresses& addresses);

  // No more starts from here on.
  void Terminate();
  void Kill();

  const ProcessSpec& spec() const { return spec_; }
  const ProcessState& state() const { return state_; }
  bool running() const { return child_ != nullptr; }
  // Set in phase failed: what happened.
  const std::string& failure() const { return failure_; }
  // Of the child's output, to wait for; -1: none.
  int output_fd() const { return child_ == nullptr ? -1 : child_->output_fd(); }
  // Until Turn() has something to do even if nothing happens.
  absl::Duration NextTurnIn() const;

 private:
  void Launch(const Addresses& addresses);
  void MoveOutput();
  void NoteExit(const ProcessExit& exit);
  void LookAtHealth();
  void Fail(std::string why);
  void LogStart();

  ProcessSpec spec_;
  const Settings settings_;
  const Clock& clock_;
  const std::string port_file_;
  const std::string metrics_port_file_;
  RotatingLog log_;
  RestartPolicy policy_;
  std::unique_ptr<ChildProcess> child_;
  ProcessState state_;
  std::string failure_;
  bool stopping_ = false;
  bool was_up_ = false;
  bool timed_out_ = false;
  absl::Duration launched_at_;
  absl::Duration restart_at_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_SUPERVISED_PROCESS_H_
