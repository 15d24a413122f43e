#include "trainer/model/rope_table.h"

#include <cmath>

namespace deltaworks::trainer {
namespace {

// The formula is at Llama3RopeScaling.
float ScaledFrequency(float frequency, const Llama3RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_max_position_embeddings);
  const double wavelength = 2 * M_PI / frequency;
  if (wavelength < original / scaling.high_freq_factor) return frequency;
  if (wavelength > original / scaling.low_freq_factor) {
    return static_cast<float>(frequency / scaling.factor);
  }
  const double smooth = (original / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return static_cast<float>((1 - smooth) * frequency / scaling.factor + smooth * frequency);
}

}  // namespace

RopeTable MakeRopeTable(const ModelConfig& config, int64_t positions) {
  RopeTable table{.positions = positions, .half_dim = config.head_dim / 2};
  std::vector<float> frequencies(table.half_dim);
  for (int64_t i = 0; i < table.half_dim; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    frequencies[i] = 1.0f / std::pow(static_cast<float>(config.rope_theta), exponent);
    if (config.rope_scaling) {
      frequencies[i] = ScaledFrequency(frequencies[i], *config.rope_scaling);
    }
  }
  for (int64_t position = 0; position < positions; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      table.cosines.push_back(std::cos(angle));
      table.sines.push_back(std::sin(angle));
    }
  }
  return table;
}

}  // namespace deltaworks::trainer
