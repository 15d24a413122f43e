#include "services/cli/grpc_platform.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_inference_client.h"
#include "services/clients/grpc_registry_client.h"
#include "services/clients/grpc_store_client.h"
#include "services/clients/grpc_training_client.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// A person waits this long for a service that does not answer.
constexpr absl::Duration kRetryMax = absl::Seconds(10);
// Of one attempt. The store may read a large dataset, and the scoring of a batch takes a while on
// a CPU.
constexpr absl::Duration kCallTimeout = absl::Minutes(10);

class GrpcPlatform final : public Platform {
 public:
  explicit GrpcPlatform(PlatformSettings settings) : settings_(std::move(settings)) {}

  const PlatformSettings& settings() const override { return settings_; }

  absl::StatusOr<TrainingClient*> training() override {
    return Client(training_, "scheduler", settings_.scheduler, MakeGrpcTrainingClient);
  }
  absl::StatusOr<StoreClient*> store() override {
    return Client(store_, "store", settings_.store, MakeGrpcStoreClient);
  }
  absl::StatusOr<RegistryClient*> registry() override {
    return Client(registry_, "registry", settings_.registry, MakeGrpcRegistryClient);
  }
  absl::StatusOr<InferenceClient*> inference() override {
    return Client(inference_, "inference", settings_.inference, MakeGrpcInferenceClient);
  }

 private:
  template <typename T>
  absl::StatusOr<T*> Client(std::unique_ptr<T>& client, const char* service,
                            const std::string& address,
                            std::unique_ptr<T> (*make)(const Channel&)) {
    if (client != nullptr) return client.get();
    if (address.empty()) {
      return absl::UnavailableError(
          absl::StrCat("no platform: run `dw up`, or say where one is (--", service,
                       " HOST:PORT, or --config "
                       "FILE); there is no ",
                       settings_.home, "/dw.json that names its ", service));
    }
    std::string token;
    if (!settings_.token_file.empty()) {
      DW_ASSIGN_OR_RETURN(token, ReadSecretFile(settings_.token_file));
    }
    Channel channel = MakeChannel(address, token);
    channel.retry.total_max = kRetryMax;
    channel.call_timeout = kCallTimeout;
    client = make(channel);
    return client.get();
  }

  const PlatformSettings settings_;
  std::unique_ptr<TrainingClient> training_;
  std::unique_ptr<StoreClient> store_;
  std::unique_ptr<RegistryClient> registry_;
  std::unique_ptr<InferenceClient> inference_;
};

}  // namespace

std::unique_ptr<Platform> MakeGrpcPlatform(PlatformSettings settings) {
  return std::make_unique<GrpcPlatform>(std::move(settings));
}

}  // namespace deltaworks::services
