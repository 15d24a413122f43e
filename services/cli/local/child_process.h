// ChildProcess: a process that dies with this one.
//
//   stdin    /dev/null
//   stdout, stderr   one pipe, read here (ReadOutput), so that logs can be bounded
//   group    its own, so that Ctrl-C in a terminal reaches the parent only
//   death    SIGKILL when the thread that started it ends, in whatever way: a platform's processes
//            survive kill -9 of each other by design, while one that outlived its supervisor would
//            keep ports and locks from the next
//
// Start it from a thread that lives as long as the child may. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_CHILD_PROCESS_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/local/process_exit.h"

namespace deltaworks::services {

class ChildProcess {
 public:
  struct Spec {
    std::vector<std::string> command;  // The program's path and its arguments.
    int nice = 0;                      // Added to that of this process.
    int inherited_fd = -1;             // Stays open in the child, as the same number.
  };

  // Errors: NotFound, PermissionDenied, ... of the program, with its path.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const Spec& spec);
  // Kills it if it still runs, and waits.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable when there is output or the child closed it; -1 after that.
  int output_fd() const { return output_fd_; }
  // What is there now, at most 64 KiB; never waits.
  std::string ReadOutput();

  void Signal(int number);
  // How it ended; nullopt while it runs. Never waits.
  std::optional<ProcessExit> Poll();

 private:
  ChildProcess(pid_t pid, int output_fd) : pid_(pid), output_fd_(output_fd) {}

  const pid_t pid_;
  int output_fd_;
  std::optional<ProcessExit> exit_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_CHILD_PROCESS_H_
