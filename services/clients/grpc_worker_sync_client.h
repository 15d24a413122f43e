// A WorkerSyncClient over gRPC. See worker_sync_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_WORKER_SYNC_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_WORKER_SYNC_CLIENT_H_

#include <memory>

#include "services/clients/channel.h"
#include "services/clients/worker_sync_client.h"

namespace deltaworks::services {

std::unique_ptr<WorkerSyncClient> MakeGrpcWorkerSyncClient(const Channel& channel);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_WORKER_SYNC_CLIENT_H_
