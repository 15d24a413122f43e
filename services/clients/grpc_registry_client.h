// A RegistryClient over gRPC. See registry_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_REGISTRY_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_REGISTRY_CLIENT_H_

#include <memory>

#include "services/clients/channel.h"
#include "services/clients/registry_client.h"

namespace deltaworks::services {

std::unique_ptr<RegistryClient> MakeGrpcRegistryClient(const Channel& channel);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_REGISTRY_CLIENT_H_
