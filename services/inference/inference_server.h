// InferenceServer: everything that inference is made of, in the order of dependency. main() and
// tests across services start one. Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_INFERENCE_SERVER_H_
#define DELTAWORKS_SERVICES_INFERENCE_INFERENCE_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/compute_device.h"
#include "services/base/metrics.h"
#include "services/clients/base_cache.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/inference/inference_core.h"
#include "services/inference/inference_service.h"
#include "services/inference/metrics.h"

namespace deltaworks::services {

class InferenceServer {
 public:
  struct Options {
    std::string cache_folder;       // Of the node's base models; made if it is missing.
    ComputeDeviceSettings compute;  // What answers are computed on; `device` may be "auto".
    InferenceCore::Options core;
  };

  // InvalidArgument for options out of bounds, or cores that this process may not use; Unavailable
  // or FailedPrecondition for a GPU that cannot be used. References must outlive the server.
  static absl::StatusOr<std::unique_ptr<InferenceServer>> Start(
      const Options& options, std::unique_ptr<StoreClient> store,
      std::unique_ptr<RegistryClient> registry, const Clock& clock, Metrics& metrics,
      const Authenticator& authenticator);

  InferenceService& service() { return service_; }
  // As InferenceCore's.
  void Drain(absl::Duration deadline) { core_.Drain(deadline); }

 private:
  InferenceServer(const Options& options, Engine::BackendFactory make_backend,
                  std::unique_ptr<StoreClient> store, std::unique_ptr<RegistryClient> registry,
                  const Clock& clock, Metrics& metrics, const Authenticator& authenticator);

  InferenceMetrics metrics_;
  const std::unique_ptr<StoreClient> store_;
  const std::unique_ptr<RegistryClient> registry_;
  BaseCache bases_;
  InferenceCore core_;
  InferenceService service_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_INFERENCE_SERVER_H_
