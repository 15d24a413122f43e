// FakeInferenceClient: answers as a test says; a handler that is not set answers Unimplemented.
// Thread-safe if the handlers are.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_INFERENCE_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_INFERENCE_CLIENT_H_

#include <functional>

#include "services/clients/inference_client.h"

namespace deltaworks::services {

class FakeInferenceClient final : public InferenceClient {
 public:
  // Set before use.
  std::function<absl::Status(const v1::GenerateRequest&, const Sink&)> on_generate;
  std::function<absl::StatusOr<v1::ScoreResponse>(const v1::ScoreRequest&)> on_score;
  std::function<absl::StatusOr<v1::ListLoadedModelsResponse>(const v1::ListLoadedModelsRequest&)>
      on_list_loaded_models;

  absl::Status Generate(const v1::GenerateRequest& request, const Sink& sink) override {
    if (on_generate == nullptr) return absl::UnimplementedError("Generate");
    return on_generate(request, sink);
  }
  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) override {
    if (on_score == nullptr) return absl::UnimplementedError("Score");
    return on_score(request);
  }
  absl::StatusOr<v1::ListLoadedModelsResponse> ListLoadedModels(
      const v1::ListLoadedModelsRequest& request) override {
    if (on_list_loaded_models == nullptr) return absl::UnimplementedError("ListLoadedModels");
    return on_list_loaded_models(request);
  }
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_INFERENCE_CLIENT_H_
