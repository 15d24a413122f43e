// Twin: one tensor twice, on a backend under test and on the f64 reference, with the same values;
// TwinBackends: the two, and what tests need to compare them.
//
// Inputs are rounded to the type of the backend under test first, so that both sides start from the
// same numbers. Everything that an operation under test must not use, or must overwrite, holds
// NaN: the rows behind a tensor too.

#ifndef DELTAWORKS_TRAINER_BACKEND_PARITY_TWIN_H_
#define DELTAWORKS_TRAINER_BACKEND_PARITY_TWIN_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/reference/reference_backend.h"

namespace deltaworks::trainer {

// More than a kernel works on at a time.
inline constexpr int64_t kRowsBehind = 32;

class Twin {
 public:
  Twin() = default;
  // All of it NaN (integers: 0) under test, 0 in the reference.
  Twin(Backend& backend, DType dtype, std::vector<int64_t> shape) {
    int64_t row = 1;
    for (size_t i = 1; i < shape.size(); ++i) row *= shape[i];
    auto buffer = backend.Allocate((shape[0] + kRowsBehind) * row * SizeOf(dtype));
    CHECK(buffer.ok()) << buffer.status();
    buffer_ = *std::move(buffer);
    // An all-ones pattern is a NaN in f32 and in bf16.
    if (dtype != DType::kI32) std::memset(buffer_->data(), 0xff, buffer_->bytes());
    test = TensorView{buffer_->data(), dtype, shape};
    if (dtype == DType::kI32) {
      reference = test;
    } else {
      values_.resize(test.elements());
      reference = TensorView{values_.data(), DType::kF64, shape};
    }
  }

  // Element i of the side under test.
  double At(int64_t i) const {
    return test.dtype == DType::kF32 ? test.as<float>()[i]
                                     : static_cast<float>(test.as<BFloat16>()[i]);
  }
  // Rounds `value` to the tested type and writes it on both sides.
  void Set(int64_t i, double value) {
    if (test.dtype == DType::kF32) {
      test.as<float>()[i] = static_cast<float>(value);
    } else {
      test.as<BFloat16>()[i] = BFloat16(static_cast<float>(value));
    }
    reference.as<double>()[i] = At(i);
  }
  void FillRandom(std::mt19937_64& random, double deviation) {
    std::normal_distribution<double> normal(0, deviation);
    for (int64_t i = 0; i < test.elements(); ++i) Set(i, normal(random));
  }
  // The bytes of the rows that count.
  std::string Bytes() const {
    return std::string(static_cast<const char*>(test.data), test.bytes());
  }

  TensorView test;
  TensorView reference;  // The same memory for integers.

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
  std::vector<double> values_;
};

// |got - want| <= relative * |want| + of_largest * max |want| + absolute.
struct Tolerance {
  double relative = 0;
  double of_largest = 0;
  double absolute = 0;
};

// Half the distance between neighbouring numbers, relative: what one rounding costs at most.
inline double RoundOff(DType dtype) { return dtype == DType::kBF16 ? 0x1p-8 : 0x1p-24; }

inline void ExpectClose(const Twin& twin, const Tolerance& tolerance, const std::string& name) {
  double largest = 0;
  const double* want = twin.reference.as<double>();
  for (int64_t i = 0; i < twin.test.elements(); ++i) {
    largest = std::max(largest, std::abs(want[i]));
  }
  int shown = 0;
  for (int64_t i = 0; i < twin.test.elements() && shown < 5; ++i) {
    const double bound = tolerance.relative * std::abs(want[i]) + tolerance.of_largest * largest +
                         tolerance.absolute;
    // Written so that a NaN fails.
    if (std::abs(twin.At(i) - want[i]) <= bound) continue;
    ++shown;
    ADD_FAILURE() << name << " " << ShapeText(twin.test.shape) << " element " << i << " is "
                  << twin.At(i) << ", want " << want[i] << " within " << bound;
  }
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PARITY_TWIN_H_
