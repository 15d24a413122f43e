// An InferenceClient over gRPC. See inference_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_INFERENCE_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_INFERENCE_CLIENT_H_

#include <memory>

#include "services/clients/channel.h"
#include "services/clients/inference_client.h"

namespace deltaworks::services {

std::unique_ptr<InferenceClient> MakeGrpcInferenceClient(const Channel& channel);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_INFERENCE_CLIENT_H_
