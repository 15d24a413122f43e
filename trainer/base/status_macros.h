// DW_RETURN_IF_ERROR(expr)         returns the absl::Status of `expr` unless it is OK.
// DW_ASSIGN_OR_RETURN(lhs, expr)   returns the error of the StatusOr `expr`, else assigns its
// value.

#ifndef DELTAWORKS_TRAINER_BASE_STATUS_MACROS_H_
#define DELTAWORKS_TRAINER_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define DW_RETURN_IF_ERROR(expr)                            \
  do {                                                      \
    if (absl::Status dw_status = (expr); !dw_status.ok()) { \
      return dw_status;                                     \
    }                                                       \
  } while (false)

#define DW_CONCAT_INNER_(a, b) a##b
#define DW_CONCAT_(a, b) DW_CONCAT_INNER_(a, b)

#define DW_ASSIGN_OR_RETURN(lhs, expr) \
  DW_ASSIGN_OR_RETURN_IMPL_(DW_CONCAT_(dw_status_or_, __LINE__), lhs, expr)

#define DW_ASSIGN_OR_RETURN_IMPL_(temp, lhs, expr) \
  auto temp = (expr);                              \
  if (!temp.ok()) return std::move(temp).status(); \
  lhs = *std::move(temp)

#endif  // DELTAWORKS_TRAINER_BASE_STATUS_MACROS_H_
