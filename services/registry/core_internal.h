// What the sources of RegistryCore share; for them alone. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_REGISTRY_CORE_INTERNAL_H_
#define DELTAWORKS_SERVICES_REGISTRY_CORE_INTERNAL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/base/page_token.h"

namespace deltaworks::services {

// A write that the database refused, as the callers of the registry see it: locked, read-only and
// broken are Unavailable; ResourceExhausted and DataLoss stay.
absl::Status DatabaseError(const absl::Status& status);

// The cursor of a page that goes down through numbers; INT64_MAX on the first page.
absl::StatusOr<int64_t> NumberCursor(const Page& page);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_CORE_INTERNAL_H_
