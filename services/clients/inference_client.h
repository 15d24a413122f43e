// InferenceClient: the inference service, as its callers see it.
//
// Errors are those of proto/deltaworks/v1/inference_service.proto. Score and ListLoadedModels are
// retried while the service is UNAVAILABLE; Generate is not, since text may have been shown.
//
//   GrpcInferenceClient   over a Channel            grpc_inference_client.h
//   FakeInferenceClient   answers as a test says    fake_inference_client.h
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_INFERENCE_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_INFERENCE_CLIENT_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/inference_service.pb.h"

namespace deltaworks::services {

class InferenceClient {
 public:
  virtual ~InferenceClient() = default;

  // Streams to `sink` in order. An error of the sink cancels the call, and is returned.
  using Sink = std::function<absl::Status(const v1::GenerateResponse& response)>;
  virtual absl::Status Generate(const v1::GenerateRequest& request, const Sink& sink) = 0;

  virtual absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) = 0;
  virtual absl::StatusOr<v1::ListLoadedModelsResponse> ListLoadedModels(
      const v1::ListLoadedModelsRequest& request) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_INFERENCE_CLIENT_H_
