// A TrainingClient over gRPC. See training_client.h.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_TRAINING_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_TRAINING_CLIENT_H_

#include <memory>

#include "services/clients/channel.h"
#include "services/clients/training_client.h"

namespace deltaworks::services {

std::unique_ptr<TrainingClient> MakeGrpcTrainingClient(const Channel& channel);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_TRAINING_CLIENT_H_
