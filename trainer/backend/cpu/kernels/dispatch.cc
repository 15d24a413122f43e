#include "trainer/backend/cpu/kernels/dispatch.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>

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
namespace avx512bf16 {
KernelSet MakeKernels(bool bf16);
}

std::vector<KernelIsa> SupportedKernelIsas(DType compute_type) {
  // oneDNN's numbers of instruction sets grow as sets contain each other.
  const auto up_to = [](dnnl::cpu_isa isa) {
    const auto bits = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    return (bits & static_cast<unsigned>(isa)) == static_cast<unsigned>(isa);
  };
  std::vector<KernelIsa> isas = {KernelIsa::kGeneric};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2 || !up_to(dnnl::cpu_isa::avx2)) return isas;
  isas.push_back(KernelIsa::kAvx2);
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512 || !up_to(dnnl::cpu_isa::avx512_core)) return isas;
  isas.push_back(KernelIsa::kAvx512);
  const bool bf16 = compute_type == DType::kBF16 && __builtin_cpu_supports("avx512bf16");
  if (!bf16 || !up_to(dnnl::cpu_isa::avx512_core_bf16)) return isas;
  isas.push_back(KernelIsa::kOneDnn);
  isas.push_back(KernelIsa::kAvx512Bf16);
  if (up_to(dnnl::cpu_isa::avx512_core_amx)) std::iter_swap(isas.end() - 1, isas.end() - 2);
  return isas;
}

const KernelSet& KernelsFor(KernelIsa isa, DType compute_type) {
  CHECK(compute_type == DType::kF32 || compute_type == DType::kBF16)
      << "compute type is " << NameOf(compute_type) << ", want F32 or BF16";
  static const KernelSet sets[4][2] = {
      {generic::MakeKernels(false), generic::MakeKernels(true)},
      {avx2::MakeKernels(false), avx2::MakeKernels(true)},
      {avx512::MakeKernels(false), avx512::MakeKernels(true)},
      {avx512bf16::MakeKernels(false), avx512bf16::MakeKernels(true)},
  };
  return sets[std::min(static_cast<int>(isa), 3)][compute_type == DType::kBF16];
}

}  // namespace deltaworks::trainer
