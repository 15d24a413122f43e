#include "services/inference/device_model.h"

#include <utility>

#include "trainer/base/status_macros.h"

namespace deltaworks::services {

DeviceModel::DeviceModel(std::unique_ptr<trainer::Llama> llama,
                         std::unique_ptr<trainer::KvPool> own_pool, trainer::KvPool& pool,
                         const Options& options)
    : llama_(std::move(llama)),
      own_pool_(std::move(own_pool)),
      pool_(pool),
      generator_(trainer::Generator::CreateOn(*llama_, pool_, options.generator)),
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
      new DeviceModel(std::move(llama), std::move(pool), shared, options));
}

absl::StatusOr<std::unique_ptr<DeviceModel>> DeviceModel::OfMerge(DeviceModel& base,
                                                                  const LoadedMerge& merge,
                                                                  const Options& options) {
  DW_ASSIGN_OR_RETURN(
      auto llama,
      trainer::Llama::Create(base.llama().backend(), base.llama().config(),
                             merge.weights->tensors(), {.positions_max = options.context}));
  return std::unique_ptr<DeviceModel>(
      new DeviceModel(std::move(llama), /*own_pool=*/nullptr, base.pool(), options));
}

}  // namespace deltaworks::services
