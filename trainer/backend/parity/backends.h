// The backends that parity and exactness tests run over. Each test program links one definition of
// TestedBackends(): cpu_backends.cc, or CUDA's, emulated or on a card (../cuda/).
//
// Their memory can be read and written by the host between operations, which have finished when
// their call returns.

#ifndef DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_
#define DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

struct TestedBackend {
  std::string name;
  DType type = DType::kF32;  // The compute type.
  bool fp8_base = false;
  // How the numerics class begins.
  std::string numerics;
  // Large products take long: tests of many of them take one of so many.
  int64_t thinning = 1;
  // Attention rounds probabilities and the gradients of scores to the compute type before it
  // multiplies them.
  bool rounds_probabilities = false;
  std::function<std::unique_ptr<Backend>(int threads)> make;
};

// The same ones at each call.
std::vector<TestedBackend> TestedBackends();

inline void PrintTo(const TestedBackend& backend, std::ostream* out) { *out << backend.name; }

inline std::string BackendName(const ::testing::TestParamInfo<TestedBackend>& info) {
  return info.param.name;
}

inline auto AllBackends() { return ::testing::ValuesIn(TestedBackends()); }

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_
