// How values become e4m3 with one scale (Micikevicius et al. 2022, section 4): the largest of them
// becomes the largest that there is.
//
//   scale = max(|x_i|, 2^-96) / 448,   code_i = x_i * (1 / scale) rounded,   x_i ~ scale * code_i
//
// in f32. The bound keeps 1 / scale finite. One NaN or infinity makes all of them unusable.

#ifndef DELTAWORKS_TRAINER_BACKEND_FP8_H_
#define DELTAWORKS_TRAINER_BACKEND_FP8_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "trainer/tensor.h"

namespace deltaworks::trainer {

inline float Fp8Scale(float largest_magnitude) {
  return std::max(largest_magnitude, 0x1p-96f) / Float8E4M3::kMax;
}
inline Float8E4M3 Fp8Code(float x, float scale) { return Float8E4M3(x * (1.0f / scale)); }

// Replaces x[0], x[stride], ..., `count` of them, by what their codes and their one scale stand
// for; exact in f64.
template <typename Real>
void RoundToFp8(int64_t count, int64_t stride, Real* x) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(static_cast<float>(x[i * stride])));
  }
  const float scale = Fp8Scale(largest);
  for (int64_t i = 0; i < count; ++i) {
    Real& value = x[i * stride];
    value = Real{scale} * static_cast<float>(Fp8Code(static_cast<float>(value), scale));
  }
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_FP8_H_
