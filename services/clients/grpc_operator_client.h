// An OperatorClient over gRPC. See operator_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_OPERATOR_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_OPERATOR_CLIENT_H_

#include <memory>

#include "services/clients/channel.h"
#include "services/clients/operator_client.h"

namespace deltaworks::services {

std::unique_ptr<OperatorClient> MakeGrpcOperatorClient(const Channel& channel);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_OPERATOR_CLIENT_H_
