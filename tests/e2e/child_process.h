// ChildProcess: a program that a test runs beside itself: started, signalled, waited for.
//
// A child dies with the thread that started it (PR_SET_PDEATHSIG), so start them from the test's
// main thread: then nothing is left over however the test ends. Its output is appended to a log.
// Thread-compatible. What should not fail on a sane machine is CHECKed.

#ifndef DELTAWORKS_TESTS_E2E_CHILD_PROCESS_H_
#define DELTAWORKS_TESTS_E2E_CHILD_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace deltaworks::e2e {

class ChildProcess {
 public:
  struct Command {
    std::string program;  // Path.
    std::vector<std::string> arguments;
    std::vector<std::string> environment;  // "NAME=VALUE", besides that of the test.
    std::string log_path;                  // Gets stdout and stderr.
  };

  explicit ChildProcess(const Command& command);
  ~ChildProcess();  // kill -9.
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Nothing if it has ended.
  void Signal(int signal);
  // Its exit code, or 128 + the signal that ended it; empty while it runs.
  std::optional<int> ExitCode();
  // The same, once it ended; empty if it did not within `timeout`.
  std::optional<int> Wait(absl::Duration timeout);
  // kill -9, and waits until it is gone.
  void Kill();

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_CHILD_PROCESS_H_
