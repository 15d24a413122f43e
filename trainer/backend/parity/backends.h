// The backends that parity and exactness tests run over: each compute type with the kernels of each
// instruction set that this machine has, and with AMX's on emulated tiles.

#ifndef DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_
#define DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"
#include "trainer/backend/cpu/kernels/tested_kernels.h"

namespace deltaworks::trainer {

using BackendParameter = std::tuple<DType, const KernelSet*>;

inline std::unique_ptr<Backend> MakeBackend(const BackendParameter& parameter, int threads) {
  CpuOptions options;
  options.compute_type = std::get<0>(parameter);
  options.threads = threads;
  auto backend = NewCpuBackendWithKernels(options, *std::get<1>(parameter));
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

inline std::string BackendName(const ::testing::TestParamInfo<BackendParameter>& info) {
  const auto [type, kernels] = info.param;
  return std::string(NameOf(type)) + kernels->isa;
}

inline std::vector<BackendParameter> BackendsOf(DType type) {
  std::vector<BackendParameter> backends;
  for (const KernelSet* set : TestedKernels(type)) backends.emplace_back(type, set);
  return backends;
}

inline auto AllBackends() {
  std::vector<BackendParameter> all = BackendsOf(DType::kF32);
  for (const BackendParameter& backend : BackendsOf(DType::kBF16)) all.push_back(backend);
  return ::testing::ValuesIn(all);
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PARITY_BACKENDS_H_
