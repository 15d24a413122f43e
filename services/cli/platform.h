// Platform: the services that `dw` talks to, as a command sees them: where they are, with which
// token, and clients made when first asked for.
//
//   GrpcPlatform   over gRPC                        grpc_platform.h
//   FakePlatform   fakes in memory, for tests       testing/cli_world.h
//
// Clients belong to the platform. Asking for one whose address is not known is Unavailable, "no
// platform: run `dw up`". Not thread-safe, but the clients are.

#ifndef DELTAWORKS_SERVICES_CLI_PLATFORM_H_
#define DELTAWORKS_SERVICES_CLI_PLATFORM_H_

#include <string>

#include "absl/status/statusor.h"
#include "services/clients/inference_client.h"
#include "services/clients/operator_client.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/clients/training_client.h"

namespace deltaworks::services {

// From flags, the environment and the client file, in this order; empty: nobody said.
struct PlatformSettings {
  // Where `dw up` keeps everything: DELTAWORKS_HOME, ~/.deltaworks by default.
  std::string home;
  // HOST:PORT.
  std::string scheduler;
  std::string store;
  std::string registry;
  std::string inference;
  // The caller's token, mode 0600.
  std::string token_file;
  // An operator's: a token of all tenants, for what changes the platform; mode 0600.
  std::string operator_token_file;
  // The services' own list of tokens (services/base/token_file.h); only on their machine.
  std::string tokens_file;
};

class Platform {
 public:
  virtual ~Platform() = default;

  virtual const PlatformSettings& settings() const = 0;
  virtual absl::StatusOr<TrainingClient*> training() = 0;
  // The scheduler too, shown the operator's token; the caller's if no operator_token_file is named.
  virtual absl::StatusOr<OperatorClient*> operators() = 0;
  virtual absl::StatusOr<StoreClient*> store() = 0;
  virtual absl::StatusOr<RegistryClient*> registry() = 0;
  virtual absl::StatusOr<InferenceClient*> inference() = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_PLATFORM_H_
