// The backends that parity and exactness tests run over: each compute type with the kernels of each
// instruction set that this machine has.

#ifndef DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_
#define DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_

#include <memory>
#include <string>
#include <tuple>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"

namespace deltaworks::trainer {

using BackendParameter = std::tuple<DType, KernelIsa>;

inline std::unique_ptr<Backend> MakeBackend(const BackendParameter& parameter, int threads) {
  CpuOptions options;
  options.compute_type = std::get<0>(parameter);
  options.threads = threads;
  auto backend = NewCpuBackendWithKernels(options, std::get<1>(parameter));
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

inline std::string BackendName(const ::testing::TestParamInfo<BackendParameter>& info) {
  const DType type = std::get<0>(info.param);
  return std::string(NameOf(type)) + KernelsFor(std::get<1>(info.param), type).isa;
}

inline auto AllBackends() {
  return ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                            ::testing::ValuesIn(SupportedKernelIsas()));
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_
