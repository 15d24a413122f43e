// ProcessExit: how a process ended. A value, thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_PROCESS_EXIT_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_PROCESS_EXIT_H_

#include <string>

#include "absl/strings/str_cat.h"

namespace deltaworks::services {

struct ProcessExit {
  int code = 0;    // If `signal` is 0.
  int signal = 0;  // The signal that ended it.

  // "exit code 3", "signal 9".
  std::string Text() const {
    return signal != 0 ? absl::StrCat("signal ", signal) : absl::StrCat("exit code ", code);
  }
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_PROCESS_EXIT_H_
