// DeviceModel: one set of weights on the engine's backend, with the streams that run on it. Streams
// of a base and of merges of it share one KV pool, the base's.
//
// The engine's thread only; may be destroyed anywhere once it has no stream. Backend and weights
// must outlive it.

#ifndef DELTAWORKS_SERVICES_INFERENCE_DEVICE_MODEL_H_
#define DELTAWORKS_SERVICES_INFERENCE_DEVICE_MODEL_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "services/inference/loaded_model.h"
#include "trainer/backend/backend.h"
#include "trainer/generate/generator.h"
#include "trainer/generate/kv_pool.h"
#include "trainer/model/llama.h"
#include "trainer/model/workspace.h"

namespace deltaworks::services {

class DeviceModel final : public DeviceState {
 public:
  struct Options {
    int64_t context = 0;
    int64_t kv_tokens = 0;
    trainer::GeneratorOptions generator;
  };

  // ResourceExhausted if the device has no room.
  static absl::StatusOr<std::unique_ptr<DeviceModel>> OfBase(trainer::Backend& backend,
                                                             const LoadedBase& base,
                                                             const Options& options);
  // `base`: that of the merge, on the device; outlives it.
  static absl::StatusOr<std::unique_ptr<DeviceModel>> OfMerge(DeviceModel& base,
                                                              const LoadedMerge& merge);

  const trainer::Llama& llama() const { return *llama_; }
  trainer::KvPool& pool() { return pool_; }
  trainer::Generator& generator() { return *generator_; }
  // Of scoring.
  trainer::Workspace& workspace() { return workspace_; }

 private:
  DeviceModel(std::unique_ptr<trainer::Llama> llama, std::unique_ptr<trainer::KvPool> own_pool,
              trainer::KvPool& pool, const trainer::GeneratorOptions& options);

  const std::unique_ptr<trainer::Llama> llama_;
  const std::unique_ptr<trainer::KvPool> own_pool_;  // Of a base.
  trainer::KvPool& pool_;
  const trainer::GeneratorOptions options_;
  const std::unique_ptr<trainer::Generator> generator_;
  trainer::Workspace workspace_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_DEVICE_MODEL_H_
