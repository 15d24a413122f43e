// An error of OperatorClient, with what to do where the token shown is a tenant's. Pure,
// thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_OPERATOR_ERROR_H_
#define DELTAWORKS_SERVICES_CLI_OPERATOR_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace deltaworks::services {

inline absl::Status OperatorError(const absl::Status& status) {
  if (!absl::IsPermissionDenied(status)) return status;
  return absl::PermissionDeniedError(absl::StrCat(
      status.message(),
      ": name the file of an operator's token with --operator_token_file, or in the client file"));
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_OPERATOR_ERROR_H_
