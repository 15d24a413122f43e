// Angles of the rotary position embedding (Su et al. 2021, RoFormer, section 3.2.2), computed as
// Hugging Face does: inverse frequencies and their products with the position in f32.

#ifndef DELTAWORKS_TRAINER_MODEL_ROPE_TABLE_H_
#define DELTAWORKS_TRAINER_MODEL_ROPE_TABLE_H_

#include <cstdint>
#include <vector>

#include "trainer/model/config.h"

namespace deltaworks::trainer {

struct RopeTable {
  int64_t positions = 0;
  int64_t half_dim = 0;
  std::vector<float> cosines;  // [positions, half_dim]
  std::vector<float> sines;
};

RopeTable MakeRopeTable(const ModelConfig& config, int64_t positions);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_ROPE_TABLE_H_
