// The process of inference. `inference --help` tells its flags; services/inference/README.md the
// rest.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/address.h"
#include "services/base/compute_device.h"
#include "services/base/flags.h"
#include "services/base/machine.h"
#include "services/base/service_main.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_registry_client.h"
#include "services/clients/grpc_store_client.h"
#include "services/inference/inference_server.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// One call should not wait longer than this for a store or registry that is away.
constexpr absl::Duration kRetryMax = absl::Seconds(5);
// Of the drain's deadline: what is left for the answers to get through.
constexpr absl::Duration kDrainMargin = absl::Seconds(1);

class InferenceProgram final : public ServiceProgram {
 public:
  std::string name() const override { return "inference"; }
  std::string description() const override {
    return "Answers with base models and adapters: generates text, scores examples.";
  }

  void AddFlags(FlagSet& flags) override {
    Engine::Options& engine = options_.core.engine;
    ModelLoader::Options& loader = options_.core.loader;
    flags.Add("store_address", &store_address_, "HOST:PORT of the store");
    flags.Add("registry_address", &registry_address_, "HOST:PORT of the registry");
    flags.Add("token_file", &token_file_, "mode 0600, the token shown to store and registry");
    flags.Add("cache_folder", &options_.cache_folder,
              "the base models of this machine, shared with its workers; made if it is missing");
    flags.Add("device", &options_.compute.device,
              "cpu:0, this machine's cores; cuda:N, one of its GPUs; auto");
    flags.Add("threads", &options_.compute.threads,
              "of cpu:0; 0: one for each core given, or of the machine");
    flags.Add("cores", &cores_, "numbers of the cores that its threads may run on; none: any");
    flags.Add("cuda_graphs", &options_.compute.cuda_graphs, kCudaGraphsHelp);
    flags.Add("streams_max", &engine.streams_max, "Generate calls answered at the same time");
    flags.Add("queue_max", &engine.queue_max, "calls beside those before one is refused");
    flags.Add("context_max", &engine.context_max,
              "tokens of a prompt with its continuation, and of a scored example; at most the "
              "base's context counts");
    flags.Add("kv_tokens_max", &engine.kv_tokens_max,
              "tokens of all streams of one base; memory is this times the base's bytes per token "
              "(23,040 for SmolLM2-135M in bf16)");
    flags.Add("prompt_rows_max", &engine.prompt_rows_max,
              "prompt tokens read between two steps of the other streams");
    flags.Add("score_rows_max", &engine.score_rows_max, "tokens of one pass of Score");
    flags.Add("base_bytes_max", &loader.base_bytes_max, "mapped weights of all bases");
    flags.Add("adapter_bytes_max", &loader.adapter_bytes_max, "memory of all adapters");
    flags.Add("merged_bytes_max", &loader.merged_bytes_max, "memory of all merged copies");
  }

  absl::Status Start(const ServiceEnvironment& environment) override {
    DW_RETURN_IF_ERROR(ParseHostPort("--store_address", store_address_).status());
    DW_RETURN_IF_ERROR(ParseHostPort("--registry_address", registry_address_).status());
    DW_ASSIGN_OR_RETURN(options_.compute.cores, ParseCores(cores_));
    DW_ASSIGN_OR_RETURN(const std::string token, ReadSecretFile(token_file_));
    Channel store = MakeChannel(store_address_, token);
    Channel registry = MakeChannel(registry_address_, token);
    store.retry.total_max = registry.retry.total_max = kRetryMax;
    DW_ASSIGN_OR_RETURN(server_,
                        InferenceServer::Start(options_, MakeGrpcStoreClient(store),
                                               MakeGrpcRegistryClient(registry), environment.clock,
                                               environment.metrics, environment.authenticator));
    return absl::OkStatus();
  }

  std::vector<grpc::Service*> services() override { return {&server_->service()}; }
  void Drain(absl::Duration deadline) override {
    server_->Drain(std::max(deadline / 2, deadline - kDrainMargin));
  }
  void Stop() override { server_.reset(); }

 private:
  std::string store_address_ = "127.0.0.1:7002";
  std::string registry_address_ = "127.0.0.1:7003";
  std::string token_file_;
  std::vector<std::string> cores_;
  InferenceServer::Options options_;
  std::unique_ptr<InferenceServer> server_;
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::InferenceProgram program;
  return deltaworks::services::ServiceMain(argc, argv, program);
}
