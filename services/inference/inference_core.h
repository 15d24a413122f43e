// InferenceCore: the rpcs of inference_service.proto without gRPC: check, resolve, load, encode on
// the caller's thread; compute on the engine's; hand out what comes.
//
//      caller's thread                                engine's thread
//   check -> resolve -> load -> encode -> Submit --> queue -> steps, passes
//   sink <- text, token by token  <----------------------------+
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_INFERENCE_CORE_H_
#define DELTAWORKS_SERVICES_INFERENCE_INFERENCE_CORE_H_

#include <atomic>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/clients/base_cache.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/inference/engine.h"
#include "services/inference/metrics.h"
#include "services/inference/model_loader.h"
#include "services/inference/model_resolver.h"

namespace deltaworks::services {

// Of one call.
struct CallControl {
  // The caller went away; asked often.
  std::function<bool()> cancelled = [] { return false; };
  // On Clock::Monotonic().
  absl::Duration deadline = absl::InfiniteDuration();
};

class InferenceCore {
 public:
  struct Options {
    Engine::Options engine;
    ModelLoader::Options loader;
  };

  // References must outlive it.
  InferenceCore(const Options& options, Engine::BackendFactory make_backend, StoreClient& store,
                RegistryClient& registry, BaseCache& bases, InferenceMetrics& metrics,
                const Clock& clock);

  // Blocks until the last message was handed to `sink`, which returns false if the caller is gone.
  using Sink = std::function<bool(const v1::GenerateResponse& response)>;
  absl::Status Generate(const Caller& caller, const v1::GenerateRequest& request,
                        const CallControl& control, const Sink& sink);
  absl::StatusOr<v1::ScoreResponse> Score(const Caller& caller, const v1::ScoreRequest& request,
                                          const CallControl& control);
  absl::StatusOr<v1::ListLoadedModelsResponse> ListLoadedModels(
      const Caller& caller, const v1::ListLoadedModelsRequest& request);

  // Refuses what comes, lets what is there end within `deadline`, and cuts off the rest, both with
  // Unavailable.
  void Drain(absl::Duration deadline);

  const Engine& engine() const { return engine_; }

 private:
  // `loading`: how long it took to bring the model into memory; next to nothing if it was there.
  absl::StatusOr<ModelHandle> LoadModel(const std::string& tenant,
                                        const v1::ModelSelector& selector,
                                        const CallControl& control, absl::Duration* loading);
  absl::Status GenerateOn(const ModelHandle& model, const v1::GenerateRequest& request,
                          const CallControl& control, absl::Duration begin, absl::Duration loading,
                          const Sink& sink);
  absl::StatusOr<v1::ScoreResponse> ScoreOn(const ModelHandle& model,
                                            const v1::ScoreRequest& request,
                                            const CallControl& control);
  // Error of a call that is cancelled while it waits.
  absl::Status Wanted(const CallControl& control) const;

  InferenceMetrics& metrics_;
  const Clock& clock_;
  const ModelResolver resolver_;
  Engine engine_;       // Its backends outlive what the loader holds.
  ModelLoader loader_;  // After the engine.
  std::atomic<bool> stopping_ = false;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_INFERENCE_CORE_H_
