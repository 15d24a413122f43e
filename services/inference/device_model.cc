#include "services/inference/device_model.h"

#include <utility>

#include "trainer/base/status_macros.h"

namespace deltaworks::services {

DeviceModel::DeviceModel(std::unique_ptr<trainer::Llama> llama,
                         std::unique_ptr<trainer::KvPool> own_pool, trainer::KvPool& pool,
                         const trainer::GeneratorOptions& options)
    : llama_(std::move(llama)),
      own_pool_(std::move(own_pool)),
      pool_(pool),
      options_(options),
      generator_(trainer::Generator::CreateOn(*llama_, pool_, options)),
      workspace_(llama_->backend(), llama_->config()) {}

absl::StatusOr<std::unique_ptr<DeviceModel>> DeviceModel::OfBase(trainer::Backend& backend,
                                                                 const LoadedBase& base,
                                                                 const Options& options) {
  DW_ASSIGN_OR_RETURN(auto llama,
                      trainer::Llama::Create(backend, base.config(), base.weights().tensors(),
                                             {.positions_max = options.context}));
  DW_ASSIGN_OR_RETURN(auto pool,
                      trainer::KvPool::Create(backend, base.config(), options.kv_tokens));
  trainer::KvPool& shared = *pool;
  return std::unique_ptr<DeviceModel>(
      new DeviceModel(std::move(llama), std::move(pool), shared, options.generator));
}

absl::StatusOr<std::unique_ptr<DeviceModel>> DeviceModel::OfMerge(DeviceModel& base,
                                                                  const LoadedMerge& merge) {
  DW_ASSIGN_OR_RETURN(auto llama,
                      trainer::Llama::Create(base.llama().backend(), base.llama().config(),
                                             merge.weights->tensors(),
                                             {.positions_max = base.llama().positions_max()}));
  return std::unique_ptr<DeviceModel>(
      new DeviceModel(std::move(llama), /*own_pool=*/nullptr, base.pool(), base.options_));
}

}  // namespace deltaworks::services
