// The gRPC face of inference: who calls, until when, then delegate. Everything else is
// InferenceCore's. For the contract, see proto/deltaworks/v1/inference_service.proto.

#ifndef DELTAWORKS_SERVICES_INFERENCE_INFERENCE_SERVICE_H_
#define DELTAWORKS_SERVICES_INFERENCE_INFERENCE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "proto/deltaworks/v1/inference_service.grpc.pb.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/inference/inference_core.h"

namespace deltaworks::services {

// Stateless and thread-safe; a call has a thread of gRPC's until it ends (Server::threads_max).
class InferenceService final : public v1::InferenceService::Service {
 public:
  // All must outlive this object.
  InferenceService(InferenceCore& core, const Authenticator& authenticator, const Clock& clock)
      : core_(core), authenticator_(authenticator), clock_(clock) {}

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override;
  grpc::Status ListLoadedModels(grpc::ServerContext* context,
                                const v1::ListLoadedModelsRequest* request,
                                v1::ListLoadedModelsResponse* response) override;

 private:
  CallControl ControlOf(grpc::ServerContext* context) const;

  InferenceCore& core_;
  const Authenticator& authenticator_;
  const Clock& clock_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_INFERENCE_SERVICE_H_
