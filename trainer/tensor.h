// DType and TensorView: what the trainer calls a tensor. A view is a pointer, a type and a shape;
// it owns nothing. Tensors are dense and row-major. Value types: copy them freely, from any thread.

#ifndef DELTAWORKS_TRAINER_TENSOR_H_
#define DELTAWORKS_TRAINER_TENSOR_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "glog/logging.h"

namespace deltaworks::trainer {

enum class DType { kF64, kF32, kF16, kBF16, kF8E4M3, kI32, kI64, kU8 };

// Bytes of one element.
int64_t SizeOf(DType dtype);

// The name in safetensors: "F32", "BF16", ...
absl::string_view NameOf(DType dtype);
// Those that a file may have: of kF8E4M3 the scales are not known.
std::optional<DType> DTypeFromName(absl::string_view safetensors_name);

// The upper half of an IEEE f32. Conversion from f32 rounds to nearest even; NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof(word));
    if ((word & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((word >> 16) | 0x40);  // Quiet, so that truncation keeps a NaN.
    } else {
      bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1)) >> 16);
    }
  }
  explicit operator float() const {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &word, sizeof(value));
    return value;
  }
};

// Eight bits with four of exponent and three of mantissa, without infinities (Micikevicius et al.
// 2022, "FP8 formats for deep learning"). Conversion from f32 rounds to nearest even; what is
// larger than kMax becomes kMax; NaN stays NaN.
struct Float8E4M3 {
  static constexpr float kMax = 448;
  uint8_t bits = 0;

  Float8E4M3() = default;
  explicit Float8E4M3(float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof(word));
    const auto sign = static_cast<uint8_t>(word >> 24 & 0x80);
    const uint32_t magnitude = word & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
      bits = 0x7f;
    } else if (magnitude >= 0x43e00000u) {  // kMax.
      bits = sign | 0x7e;
    } else if (magnitude < 0x3c800000u) {  // 2^-6: multiples of 2^-9 from here down.
      float scaled;
      std::memcpy(&scaled, &magnitude, sizeof(scaled));
      // Adding 2^23 leaves no place for a fraction.
      const float rounded = scaled * 512.0f + 8388608.0f;
      bits = sign | static_cast<uint8_t>(rounded - 8388608.0f);
    } else {
      const uint32_t rounded = (magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20;
      bits = sign | static_cast<uint8_t>(rounded - (120 << 3));  // The exponents' biases: 127, 7.
    }
  }
  explicit operator float() const {
    const uint32_t magnitude = bits & 0x7f;
    uint32_t word = 0;
    float value;
    if (magnitude < 8) {
      value = static_cast<float>(magnitude) * 0x1p-9f;
      std::memcpy(&word, &value, sizeof(word));
    } else {
      word = magnitude == 0x7f ? 0x7fc00000u : (magnitude + (120 << 3)) << 20;
    }
    word |= static_cast<uint32_t>(bits & 0x80) << 24;
    std::memcpy(&value, &word, sizeof(value));
    return value;
  }
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};

// `Pointer` is void* for a view that may be written, const void* for one that may not.
template <typename Pointer>
struct BasicTensorView {
  Pointer data = nullptr;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t dim(int i) const { return shape[i]; }
  int64_t elements() const {
    int64_t product = 1;
    for (const int64_t size : shape) product *= size;
    return product;
  }
  int64_t bytes() const { return elements() * SizeOf(dtype); }

  // The elements as T, which must be the view's dtype.
  template <typename T>
  T* as() const {
    CHECK(DTypeOf<std::remove_const_t<T>>::value == dtype) << "tensor is " << NameOf(dtype);
    return static_cast<T*>(data);
  }
};

using TensorView = BasicTensorView<void*>;

struct ConstTensorView : BasicTensorView<const void*> {
  ConstTensorView() = default;
  ConstTensorView(const void* data, DType dtype, std::vector<int64_t> shape)
      : BasicTensorView<const void*>{data, dtype, std::move(shape)} {}
  ConstTensorView(const TensorView& view)  // NOLINT: a writable view may always be read.
      : BasicTensorView<const void*>{view.data, view.dtype, view.shape} {}
};

// "[576, 1536]"
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TENSOR_H_
