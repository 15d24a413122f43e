// CheckSync: what the core takes for granted of a worker's report. The wire is untrusted: every
// name, number and bound of worker_service.proto is looked at here. Pure function.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_SYNC_CHECK_H_
#define DELTAWORKS_SERVICES_SCHEDULER_SYNC_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::services {

// Attempts in one report, and so those that one worker may hold.
inline constexpr int64_t kSyncAttemptsMax = 256;

// InvalidArgument: subject, got, want.
absl::Status CheckSync(const v1::SyncRequest& report);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_SYNC_CHECK_H_
