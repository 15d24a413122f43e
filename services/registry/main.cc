// The registry's process. `registry --help` tells its flags; services/registry/README.md the rest.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/base/address.h"
#include "services/base/flags.h"
#include "services/base/service_main.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_store_client.h"
#include "services/registry/registry_server.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// A caller of the registry repeats by itself; one call should not wait longer than this.
constexpr absl::Duration kStoreRetryMax = absl::Seconds(5);

class RegistryProgram final : public ServiceProgram {
 public:
  std::string name() const override { return "registry"; }
  std::string description() const override {
    return "Registers adapters: immutable versions, checked and bound to their base, and aliases.";
  }

  void AddFlags(FlagSet& flags) override {
    flags.Add("data_folder", &data_folder_, "where registry.db is; made if it is missing");
    flags.Add("store_address", &store_address_, "HOST:PORT of the store");
    flags.Add("token_file", &token_file_,
              "mode 0600, the token that the store knows this service by");
    flags.Add("database_bytes_max", &database_bytes_max_, "size of registry.db; 0: no bound");
    flags.Add("adapter_bytes_max", &adapter_bytes_max_,
              "size of adapter_model.safetensors; a larger one is rejected");
    flags.Add("aliases_max", &aliases_max_, "aliases of one adapter");
  }

  absl::Status Start(const ServiceEnvironment& environment) override {
    if (data_folder_.empty()) {
      return absl::InvalidArgumentError("--data_folder is empty, want a folder");
    }
    if (database_bytes_max_ < 0 || adapter_bytes_max_ < 1 || aliases_max_ < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--database_bytes_max is ", database_bytes_max_, ", --adapter_bytes_max is ",
          adapter_bytes_max_, ", --aliases_max is ", aliases_max_, ", want >= 0, >= 1, >= 1"));
    }
    DW_RETURN_IF_ERROR(ParseHostPort("--store_address", store_address_).status());
    DW_ASSIGN_OR_RETURN(const std::string token, ReadSecretFile(token_file_));
    Channel channel = MakeChannel(store_address_, token);
    channel.retry.total_max = kStoreRetryMax;
    DW_ASSIGN_OR_RETURN(server_,
                        RegistryServer::Start({.database_path = data_folder_ + "/registry.db",
                                               .database_bytes_max = database_bytes_max_,
                                               .core = {.adapter_bytes_max = adapter_bytes_max_,
                                                        .aliases_max = aliases_max_,
                                                        .broken = environment.request_stop}},
                                              MakeGrpcStoreClient(channel), environment.clock,
                                              environment.metrics, environment.authenticator));
    return absl::OkStatus();
  }

  std::vector<grpc::Service*> services() override { return {&server_->service()}; }
  void Stop() override { server_.reset(); }

 private:
  std::string data_folder_;
  std::string store_address_;
  std::string token_file_;
  int64_t database_bytes_max_ = 0;
  int64_t adapter_bytes_max_ = RegistryCore::Options().adapter_bytes_max;
  int64_t aliases_max_ = RegistryCore::Options().aliases_max;
  std::unique_ptr<RegistryServer> server_;
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::RegistryProgram program;
  return deltaworks::services::ServiceMain(argc, argv, program);
}
