#include "services/worker/training_base.h"

#include <utility>

#include "trainer/base/status_macros.h"

namespace deltaworks::services {

absl::StatusOr<std::unique_ptr<TrainingBase>> TrainingBase::Load(const std::string& folder,
                                                                 trainer::Backend& backend) {
  auto base = std::unique_ptr<TrainingBase>(new TrainingBase());
  DW_ASSIGN_OR_RETURN(base->weights_, trainer::ModelWeights::Open(folder));
  const trainer::ModelConfig& config = base->weights_->config();
  DW_ASSIGN_OR_RETURN(base->model_,
                      trainer::Llama::Create(backend, config, base->weights_->tensors(),
                                             {.positions_max = config.max_position_embeddings}));
  base->cohort_ = std::make_unique<trainer::Cohort>(*base->model_);
  return base;
}

int64_t TrainingBase::bytes() const {
  if (const int64_t bytes = model_->device_bytes(); bytes > 0) return bytes;
  const trainer::ManifestFile* file = manifest().Find(trainer::kWeightsFile);
  return file == nullptr ? 0 : file->size_bytes;
}

}  // namespace deltaworks::services
