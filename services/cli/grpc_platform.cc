#include "services/cli/grpc_platform.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_inference_client.h"
#include "services/clients/grpc_operator_client.h"
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
  absl::StatusOr<OperatorClient*> operators() override {
    absl::StatusOr<OperatorClient*> client = Client(operators_, "scheduler", settings_.scheduler,
                                                    MakeGrpcOperatorClient, OperatorTokenFile());
    if (client.ok() || settings_.scheduler.empty() || settings_.operator_token_file.empty()) {
      return client;
    }
    return absl::Status(
        client.status().code(),
        absl::StrCat("the operator's token cannot be read: ", client.status().message(),
                     "; want a file of mode 0600 with a token of all tenants: run this as the "
                     "user and on the machine of `dw up`, or name a copy with "
                     "--operator_token_file"));
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
    return Client(client, service, address, make, settings_.token_file);
  }
  template <typename T>
  absl::StatusOr<T*> Client(std::unique_ptr<T>& client, const char* service,
                            const std::string& address, std::unique_ptr<T> (*make)(const Channel&),
                            const std::string& token_file) {
    if (client != nullptr) return client.get();
    if (address.empty()) {
      return absl::UnavailableError(
          absl::StrCat("no platform: run `dw up`, or say where one is (--", service,
                       " HOST:PORT, or --config "
                       "FILE); there is no ",
                       settings_.home, "/dw.json that names its ", service));
    }
    std::string token;
    if (!token_file.empty()) {
      DW_ASSIGN_OR_RETURN(token, ReadSecretFile(token_file));
    }
    Channel channel = MakeChannel(address, token);
    channel.retry.total_max = kRetryMax;
    channel.call_timeout = kCallTimeout;
    client = make(channel);
    return client.get();
  }

  const std::string& OperatorTokenFile() const {
    return settings_.operator_token_file.empty() ? settings_.token_file
                                                 : settings_.operator_token_file;
  }

  const PlatformSettings settings_;
  std::unique_ptr<TrainingClient> training_;
  std::unique_ptr<OperatorClient> operators_;
  std::unique_ptr<StoreClient> store_;
  std::unique_ptr<RegistryClient> registry_;
  std::unique_ptr<InferenceClient> inference_;
};

}  // namespace

std::unique_ptr<Platform> MakeGrpcPlatform(PlatformSettings settings) {
  return std::make_unique<GrpcPlatform>(std::move(settings));
}

}  // namespace deltaworks::services
