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

enum class DType { kF64, kF32, kF16, kBF16, kI32, kI64, kU8 };

// Bytes of one element.
int64_t SizeOf(DType dtype);

// The name in safetensors: "F32", "BF16", ...
absl::string_view NameOf(DType dtype);
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
