// Exit codes of `dw`, the same for every command. Scripts rely on them; the table is in README.md
// and in `dw --help`. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_EXIT_CODE_H_
#define DELTAWORKS_SERVICES_CLI_EXIT_CODE_H_

#include <string>

#include "absl/status/status.h"

namespace deltaworks::services {

enum ExitCode : int {
  kExitOk = 0,
  // A service or this machine failed: disk full, damaged data, a bug.
  kExitError = 1,
  // What was asked for is wrong: a flag, a value, a file's contents.
  kExitWrongUse = 2,
  // No such job, dataset, model, adapter or file.
  kExitNotFound = 3,
  // Understood and refused: wrong state, exists already, not allowed.
  kExitRefused = 4,
  // Nobody answers: `dw up` was not run, or the service is starting.
  kExitUnavailable = 5,
  // The command worked, and its outcome is bad: a job ended FAILED or CANCELLED, a dataset has
  // problems, a model's import failed, part of the platform is down.
  kExitBadOutcome = 6,
  // Ctrl-C.
  kExitInterrupted = 130,
};

// Of an error that a command returned.
int ExitCodeOf(const absl::Status& status);

// The table, one code a line, for --help.
std::string ExitCodeHelp();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_EXIT_CODE_H_
