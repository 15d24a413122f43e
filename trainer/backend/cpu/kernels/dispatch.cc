#include "trainer/backend/cpu/kernels/dispatch.h"

#include "glog/logging.h"

namespace deltaworks::trainer {

// Each from table.cc, compiled for that instruction set.
namespace generic {
KernelSet MakeKernels(bool bf16);
}
namespace avx2 {
KernelSet MakeKernels(bool bf16);
}
namespace avx512 {
KernelSet MakeKernels(bool bf16);
}

std::vector<KernelIsa> SupportedKernelIsas() {
  std::vector<KernelIsa> isas = {KernelIsa::kGeneric};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) isas.push_back(KernelIsa::kAvx2);
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx2 && avx512) isas.push_back(KernelIsa::kAvx512);
  return isas;
}

const KernelSet& KernelsFor(KernelIsa isa, DType compute_type) {
  CHECK(compute_type == DType::kF32 || compute_type == DType::kBF16)
      << "compute type is " << NameOf(compute_type) << ", want F32 or BF16";
  static const KernelSet sets[3][2] = {
      {generic::MakeKernels(false), generic::MakeKernels(true)},
      {avx2::MakeKernels(false), avx2::MakeKernels(true)},
      {avx512::MakeKernels(false), avx512::MakeKernels(true)},
  };
  return sets[static_cast<int>(isa)][compute_type == DType::kBF16];
}

}  // namespace deltaworks::trainer
