// Supervisor: starts the processes of a platform in order, keeps them up, stops them in order.
//
//   CheckPorts -> each process starts when the one before it is up -> dw.json -> up
//   SIGTERM, SIGINT, SIGHUP -> workers end (they checkpoint and hand back) -> the others, last
//   started first -> gone. A second signal kills what is left.
//
// Until all were up once, any failure ends the whole: nothing is left running. After that, what
// ends is started again (restart_policy.h). state.json tells all of it at every moment. Whoever
// makes a Supervisor holds the lock of the home (Options::process.inherited_fd); every process
// inherits it, so that it is free only when all of them are gone.
//
// Run() once, on a thread that lives as long as the process, before any other thread is made: it
// blocks the signals it waits for.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_SUPERVISOR_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_SUPERVISOR_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/platform_state.h"
#include "services/cli/local/process_plan.h"
#include "services/cli/local/supervised_process.h"

namespace deltaworks::services {

class Supervisor {
 public:
  struct Options {
    PlatformLayout layout;
    std::vector<ProcessSpec> processes;
    // inherited_fd: of the home's lock.
    SupervisedProcess::Settings process;
    // After each change of the state; may be empty.
    std::function<void(const PlatformState&)> changed;
  };

  // `clock` must outlive it.
  Supervisor(Options options, const Clock& clock);
  ~Supervisor();

  // Returns when nothing runs any more: OK if it was told to stop, else why it could not start
  // (FailedPrecondition: a port in use; Unavailable: a process failed, named in state()).
  absl::Status Run();

  const PlatformState& state() const { return state_; }

 private:
  absl::Status CheckPorts() const;
  absl::Status StartAll();
  // Until a signal.
  void KeepUp();
  void StopAll();
  void StopRank(int rank);

  // Waits for a signal, output, or the next moment at which something is to be done, at most
  // `wait`; then gives every process its turn.
  void Turn(absl::Duration wait);
  void TakeSignals();
  void Publish();
  Addresses AddressesNow() const;
  // Only while starting: Unavailable, with state_.failed_process set, if a process failed, or ended
  // after it was up.
  absl::Status CheckStart();

  const Options options_;
  const Clock& clock_;
  std::vector<std::unique_ptr<SupervisedProcess>> processes_;
  PlatformState state_;
  int signal_fd_ = -1;
  int stop_signals_ = 0;
  std::string published_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_SUPERVISOR_H_
