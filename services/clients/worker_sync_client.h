// WorkerSyncClient: a worker's one conversation with the scheduler.
//
// Sync() is a long poll and not retried here: what to do after an error (the lease goes on) is the
// worker's to decide. The lease counts from before the call, so the caller reads its clock first.
// Over gRPC: grpc_worker_sync_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_WORKER_SYNC_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_WORKER_SYNC_CLIENT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::services {

class WorkerSyncClient {
 public:
  virtual ~WorkerSyncClient() = default;

  // One call at a time, report numbers ascending. DeadlineExceeded after `timeout`, Cancelled if
  // CancelSync() names its report or a later one; else the errors of worker_service.proto.
  virtual absl::StatusOr<v1::SyncResponse> Sync(const v1::SyncRequest& request,
                                                absl::Duration timeout) = 0;

  // Ends the call of this report, under way or yet to begin, so that a newer one can be sent. From
  // any thread.
  virtual void CancelSync(int64_t report_number) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_WORKER_SYNC_CLIENT_H_
