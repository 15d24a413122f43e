// A StoreClient over gRPC. See store_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_STORE_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_STORE_CLIENT_H_

#include <memory>

#include "services/clients/channel.h"
#include "services/clients/store_client.h"

namespace deltaworks::services {

std::unique_ptr<StoreClient> MakeGrpcStoreClient(const Channel& channel);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_STORE_CLIENT_H_
