// BlockOfWeights: random weights for a model of any size, in bf16, that cost one embedding's
// memory: all of them are pieces of one block that repeats itself. For timing; nothing is learnt
// from them.

#ifndef DELTAWORKS_TESTS_GPU_BLOCK_OF_WEIGHTS_H_
#define DELTAWORKS_TESTS_GPU_BLOCK_OF_WEIGHTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/formats/safetensors.h"
#include "trainer/model/config.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

class BlockOfWeights {
 public:
  // Normally distributed with deviation 0.02; norms are 1.
  explicit BlockOfWeights(const ModelConfig& config);
  // Valid as long as this object.
  const TensorMap& tensors() const { return tensors_; }

 private:
  void Add(const std::string& name, std::vector<int64_t> shape);
  void AddNorm(const std::string& name);

  std::vector<BFloat16> block_;
  std::vector<float> ones_;
  TensorMap tensors_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GPU_BLOCK_OF_WEIGHTS_H_
