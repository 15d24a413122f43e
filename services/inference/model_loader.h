// ModelLoader: brings what a resolved model needs into memory and keeps it there, within bounds.
//
//   bases     one copy per source digest and form, whichever tenant's resource names it; mapped
//             read-only from the node's cache
//   adapters  by version and base
//   merges    by version and base: a copy of the adapted matrices only
//
// Runs on the caller's thread and blocks; nothing here uses a backend, so requests that are being
// answered do not wait. Of concurrent requests for one model one loads it. Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_MODEL_LOADER_H_
#define DELTAWORKS_SERVICES_INFERENCE_MODEL_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "services/clients/base_cache.h"
#include "services/clients/registry_client.h"
#include "services/inference/loaded_model.h"
#include "services/inference/metrics.h"
#include "services/inference/model_cache.h"
#include "services/inference/model_resolver.h"

namespace deltaworks::services {

class ModelLoader {
 public:
  struct Options {
    // Of mapped weights; of adapters in memory; of merged copies.
    int64_t base_bytes_max = int64_t{64} << 30;
    int64_t adapter_bytes_max = int64_t{1} << 30;
    int64_t merged_bytes_max = int64_t{4} << 30;
  };

  // References must outlive it.
  ModelLoader(const Options& options, BaseCache& bases, RegistryClient& registry,
              InferenceMetrics& metrics);

  // `cancelled` ends the wait, and the load if nobody else waits for it.
  //   FailedPrecondition  the adapter is bound to another base (both digests), or cannot act on it.
  //   ResourceExhausted   no room beside the models in use; the disk is full.
  //   DataLoss            bytes are not those of their digest.
  //   Unavailable, Cancelled, and what store and registry say.
  absl::StatusOr<ModelHandle> Load(const ResolvedModel& model,
                                   const std::function<bool()>& cancelled);

  // What is in memory of `tenant`, by name, mode, and base; one entry for both forms of a base.
  std::vector<v1::LoadedModel> List(const std::string& tenant) const;

 private:
  absl::StatusOr<std::shared_ptr<LoadedBase>> Base(const v1::BaseModel& base,
                                                   const std::function<bool()>& cancelled);
  absl::StatusOr<trainer::PeftAdapter> Fetch(const v1::AdapterVersion& version,
                                             const LoadedBase& base,
                                             const std::function<bool()>& cancelled);
  absl::StatusOr<std::shared_ptr<LoadedAdapter>> Adapter(const ResolvedModel& model,
                                                         std::shared_ptr<LoadedBase> base,
                                                         const std::function<bool()>& cancelled);
  absl::StatusOr<std::shared_ptr<LoadedMerge>> Merge(const ResolvedModel& model,
                                                     std::shared_ptr<LoadedBase> base,
                                                     const std::function<bool()>& cancelled);

  const Options options_;
  BaseCache& base_cache_;
  RegistryClient& registry_;
  ModelCache<LoadedBase> bases_;
  // After the bases that they hold.
  ModelCache<LoadedAdapter> adapters_;
  ModelCache<LoadedMerge> merges_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_MODEL_LOADER_H_
