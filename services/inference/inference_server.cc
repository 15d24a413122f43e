#include "services/inference/inference_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/compute_device.h"
#include "services/base/log.h"
#include "services/base/server.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

absl::Status CheckRange(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", want ", min, "..", max));
}

absl::Status CheckOptions(const InferenceServer::Options& options) {
  const Engine::Options& engine = options.core.engine;
  const ModelLoader::Options& loader = options.core.loader;
  constexpr int64_t kBytesMax = int64_t{1} << 50;
  // Every call has a thread of the server's until it ends, so more are never there.
  const int64_t calls_max = Server::Options().threads_max;
  DW_RETURN_IF_ERROR(CheckRange("--streams_max", engine.streams_max, 1, calls_max));
  DW_RETURN_IF_ERROR(CheckRange("--queue_max", engine.queue_max, 0, calls_max));
  DW_RETURN_IF_ERROR(CheckRange("--streams_max + --queue_max",
                                engine.streams_max + engine.queue_max, 1, calls_max));
  DW_RETURN_IF_ERROR(CheckRange("--context_max", engine.context_max, 2, 1 << 20));
  DW_RETURN_IF_ERROR(CheckRange("--kv_tokens_max", engine.kv_tokens_max, 2, 1 << 26));
  DW_RETURN_IF_ERROR(CheckRange("--prompt_rows_max", engine.prompt_rows_max, 1, 1 << 17));
  DW_RETURN_IF_ERROR(CheckRange("--score_rows_max", engine.score_rows_max, 1, 1 << 17));
  DW_RETURN_IF_ERROR(CheckRange("--base_bytes_max", loader.base_bytes_max, 1, kBytesMax));
  DW_RETURN_IF_ERROR(CheckRange("--adapter_bytes_max", loader.adapter_bytes_max, 1, kBytesMax));
  return CheckRange("--merged_bytes_max", loader.merged_bytes_max, 1, kBytesMax);
}

}  // namespace

absl::StatusOr<std::unique_ptr<InferenceServer>> InferenceServer::Start(
    const Options& options, std::unique_ptr<StoreClient> store,
    std::unique_ptr<RegistryClient> registry, const Clock& clock, Metrics& metrics,
    const Authenticator& authenticator) {
  if (options.cache_folder.empty()) {
    return absl::InvalidArgumentError("--cache_folder is empty, want a folder");
  }
  DW_RETURN_IF_ERROR(CheckOptions(options));
  ComputeDeviceSettings compute = options.compute;
  compute.device = ChooseDevice(compute.device);
  DW_ASSIGN_OR_RETURN(ComputeDevice device, FindComputeDevice(compute));
  // A backend that cannot be made should be known now, not at the first request.
  DW_RETURN_IF_ERROR(device.new_backend(trainer::DType::kF32).status());
  LogInfo("answers are computed here",
          {{"device", compute.device}, {"description", device.description}});
  DW_RETURN_IF_ERROR(MakeDirectories(options.cache_folder));
  return std::unique_ptr<InferenceServer>(
      new InferenceServer(options, std::move(device.new_backend), std::move(store),
                          std::move(registry), clock, metrics, authenticator));
}

InferenceServer::InferenceServer(const Options& options, Engine::BackendFactory make_backend,
                                 std::unique_ptr<StoreClient> store,
                                 std::unique_ptr<RegistryClient> registry, const Clock& clock,
                                 Metrics& metrics, const Authenticator& authenticator)
    : metrics_(metrics),
      store_(std::move(store)),
      registry_(std::move(registry)),
      bases_(options.cache_folder, *store_, metrics),
      core_(options.core, std::move(make_backend), *store_, *registry_, bases_, metrics_, clock),
      service_(core_, authenticator, clock) {}

}  // namespace deltaworks::services
