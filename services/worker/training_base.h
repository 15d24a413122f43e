// TrainingBase: a base model mapped and ready for passes, with the cohort that trains on it.
// Thread-compatible. The backend must outlive it.

#ifndef DELTAWORKS_SERVICES_WORKER_TRAINING_BASE_H_
#define DELTAWORKS_SERVICES_WORKER_TRAINING_BASE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"
#include "trainer/model/llama.h"
#include "trainer/model/weights.h"
#include "trainer/train/cohort.h"

namespace deltaworks::services {

class TrainingBase {
 public:
  // InvalidArgument or NotFound if the folder is no base of this number type.
  static absl::StatusOr<std::unique_ptr<TrainingBase>> Load(const std::string& folder,
                                                            trainer::Backend& backend);

  const trainer::ModelManifest& manifest() const { return weights_->manifest(); }
  const trainer::Llama& model() const { return *model_; }
  trainer::Cohort& cohort() { return *cohort_; }
  // True once: whoever passes first reads the weights from disk.
  bool TakeFirstPass() { return std::exchange(first_pass_, false); }
  // Of the mapped weights.
  int64_t bytes() const;

 private:
  TrainingBase() = default;
  std::unique_ptr<trainer::ModelWeights> weights_;
  std::unique_ptr<trainer::Llama> model_;
  std::unique_ptr<trainer::Cohort> cohort_;
  bool first_pass_ = true;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TRAINING_BASE_H_
