// WorkerSyncClient: a worker's one conversation with the scheduler.
//
// Sync() is a long poll and not retried here: what to do after an error (the lease goes on) is the
// worker's to decide. The lease counts from before the call, so the caller reads its clock first.
//
//   GrpcWorkerSyncClient   over a Channel             grpc_worker_sync_client.h
//   FakeWorkerSyncClient   answers as a test says     fake_worker_sync_client.h

#ifndef DELTAWORKS_SERVICES_CLIENTS_WORKER_SYNC_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_WORKER_SYNC_CLIENT_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::services {

class WorkerSyncClient {
 public:
  virtual ~WorkerSyncClient() = default;

  // One call at a time. DeadlineExceeded after `timeout`, Cancelled after CancelSync(); else the
  // errors of worker_service.proto.
  virtual absl::StatusOr<v1::SyncResponse> Sync(const v1::SyncRequest& request,
                                                absl::Duration timeout) = 0;

  // Ends the call under way, if there is one, so that a newer report can be sent. From any thread.
  virtual void CancelSync() = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_WORKER_SYNC_CLIENT_H_
