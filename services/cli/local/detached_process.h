// DetachedProcess: a process that goes on when this one ends: a session of its own, no terminal,
// output to a file. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_DETACHED_PROCESS_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_DETACHED_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaworks::services {

class DetachedProcess {
 public:
  // stdout and stderr are appended to `output_file`. Errors: of the file. A program that cannot be
  // run ends with exit code 127.
  static absl::StatusOr<std::unique_ptr<DetachedProcess>> Start(
      const std::vector<std::string>& command, const std::string& output_file);

  pid_t pid() const { return pid_; }
  // How it ended: the code, or 128 and the signal; nullopt while it runs. Never waits.
  std::optional<int> ExitCode();

 private:
  explicit DetachedProcess(pid_t pid) : pid_(pid) {}

  const pid_t pid_;
  std::optional<int> code_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_DETACHED_PROCESS_H_
