// IEEE half precision (F16) to f32. Files hold it (safetensors F16, the scales of GGUF's quantised
// blocks); nothing of ours computes in it. Every half is exactly a float, so there is no rounding.

#ifndef DELTAWORKS_TRAINER_FORMATS_FLOAT16_H_
#define DELTAWORKS_TRAINER_FORMATS_FLOAT16_H_

#include <cstdint>
#include <cstring>

namespace deltaworks::trainer {

// `bits`: sign 1, exponent 5 (bias 15), fraction 10.
inline float FloatFromHalf(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {  // Zero or subnormal: fraction x 2^-24.
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  // 31 is infinity or NaN and stays all ones; 112 is the difference of the biases.
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
  const uint32_t word = sign | (wide_exponent << 23) | (fraction << 13);
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_FLOAT16_H_
