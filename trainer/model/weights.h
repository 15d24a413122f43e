// ModelWeights: a stored base model, mapped.
//
// The frozen weights are read where they lie: the file is mapped read-only and shared, so all
// processes of a machine share one copy, and nothing here copies a tensor. What the folder holds
// is written at the top of trainer/formats/manifest.h.
//
// Open() compares sizes, config, names, shapes, types and alignment; it does not read the weights.
// Whether their bytes are the right ones is VerifyModelFolder's to say, once, when they arrive.
// Immutable after Open, so any thread may use it.

#ifndef DELTAWORKS_TRAINER_MODEL_WEIGHTS_H_
#define DELTAWORKS_TRAINER_MODEL_WEIGHTS_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "trainer/formats/manifest.h"
#include "trainer/formats/safetensors.h"
#include "trainer/model/config.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

class ModelWeights {
 public:
  // NotFound if a file is missing, InvalidArgument if one contradicts another.
  static absl::StatusOr<std::unique_ptr<ModelWeights>> Open(const std::string& folder);

  const ModelConfig& config() const { return config_; }
  const ModelManifest& manifest() const { return manifest_; }

  // The weights of the Hugging Face name `name`, valid as long as this object. A name that is not
  // in LlamaTensorShapes(config()) is a CHECK failure. Matrices are of manifest().form; vectors
  // are F32. With tied embeddings there is no lm_head.weight.
  const ConstTensorView& tensor(const std::string& name) const;
  const TensorMap& tensors() const { return file_->tensors(); }

 private:
  ModelWeights(ModelManifest manifest, ModelConfig config, std::unique_ptr<SafetensorsFile> file)
      : manifest_(std::move(manifest)), config_(std::move(config)), file_(std::move(file)) {}
  const ModelManifest manifest_;
  const ModelConfig config_;
  const std::unique_ptr<SafetensorsFile> file_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_WEIGHTS_H_
