#include "services/cli/exit_code.h"

namespace deltaworks::services {

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kExitWrongUse;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnavailable;
    default:
      return kExitError;
  }
}

std::string ExitCodeHelp() {
  return "  0    done\n"
         "  1    a service or this machine failed (disk full, damaged data, a limit reached)\n"
         "  2    wrong use: a flag, a value, the contents of a file\n"
         "  3    not found: job, dataset, model, adapter, file\n"
         "  4    refused: wrong state, exists already, not allowed\n"
         "  5    nobody answers: run `dw up`, or wait until the service is up\n"
         "  6    done, with a bad outcome: job FAILED or CANCELLED, dataset with problems,\n"
         "       import failed, part of the platform down\n"
         "  130  interrupted by Ctrl-C\n";
}

}  // namespace deltaworks::services
