// RandomModel: a small Llama with random weights in memory, for tests.

#ifndef DELTAWORKS_TRAINER_TESTING_RANDOM_MODEL_H_
#define DELTAWORKS_TRAINER_TESTING_RANDOM_MODEL_H_

#include <cstdint>
#include <deque>
#include <string>

#include "trainer/formats/safetensors.h"
#include "trainer/model/config.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

// 2 layers, hidden 24, 4 heads of 6 on 2 key/value heads, feed-forward 40, 50 tokens.
ModelConfig SmallConfig();
// Widths of more than one panel of columns, none of them even in anything.
ModelConfig OddConfig();

class RandomModel {
 public:
  // Weights normal with deviation 0.2 (norms 1 +- 0.1), stored as `form` does, from `seed`.
  RandomModel(const ModelConfig& config, DType form, uint64_t seed);

  const ModelConfig& config() const { return config_; }
  const TensorMap& tensors() const { return tensors_; }

 private:
  const ModelConfig config_;
  std::deque<std::string> storage_;  // Addresses stay.
  TensorMap tensors_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TESTING_RANDOM_MODEL_H_
