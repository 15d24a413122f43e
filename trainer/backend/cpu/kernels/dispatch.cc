#include "trainer/backend/cpu/kernels/dispatch.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "glog/logging.h"
#include "trainer/backend/cpu/kernels/tile_trial.h"

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
// bf16 only: avx512bf16's, but for products.
namespace amx {
void AddPanels(bool bf16, KernelSet& set);
}

namespace {

enum class Isa { kGeneric, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// The most that the environment allows.
Isa Limit() {
  const char* const limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (limit == nullptr) return Isa::kAmx;
  const std::string name = limit;
  if (name == "SSE41" || name == "AVX") return Isa::kGeneric;
  if (name.find("AVX2") == 0) return Isa::kAvx2;
  if (name == "AVX512_CORE" || name == "AVX512_CORE_VNNI") return Isa::kAvx512;
  if (name == "AVX512_CORE_BF16") return Isa::kAvx512Bf16;
  return Isa::kAmx;  // Of the others some are unknown, and oneDNN passes over those, too.
}

// Linux lets a process use tiles once it has asked.
bool TilesAllowed() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool bf16 = (d >> 22 & 1) != 0, tiles = (d >> 24 & 1) != 0;
  return bf16 && tiles && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

KernelSet AmxKernels() {
  KernelSet set = avx512bf16::MakeKernels(/*bf16=*/true);
  amx::AddPanels(/*bf16=*/true, set);
  set.isa = "amx";
  return set;
}

bool TilesWork(const KernelSet& amx) {
  static const bool work = [&] {
    if (TileTrial(amx)) return true;
    LOG(WARNING) << "AMX gives other bits than TDPBF16PS is defined to; it is not used";
    return false;
  }();
  return work;
}

}  // namespace

std::vector<const KernelSet*> SupportedKernels(DType compute_type) {
  CHECK(compute_type == DType::kF32 || compute_type == DType::kBF16)
      << "compute type is " << NameOf(compute_type) << ", want F32 or BF16";
  const Isa limit = Limit();
  const bool bf16 = compute_type == DType::kBF16;
  // Each set is made once its processor is found: making it runs its instructions, too.
  static const KernelSet generic_sets[2] = {generic::MakeKernels(false),
                                            generic::MakeKernels(true)};
  std::vector<const KernelSet*> supported = {&generic_sets[bf16]};
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!has_avx2 || limit < Isa::kAvx2) return supported;
  static const KernelSet avx2_sets[2] = {avx2::MakeKernels(false), avx2::MakeKernels(true)};
  supported.push_back(&avx2_sets[bf16]);
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!has_avx512 || limit < Isa::kAvx512) return supported;
  static const KernelSet avx512_sets[2] = {avx512::MakeKernels(false), avx512::MakeKernels(true)};
  supported.push_back(&avx512_sets[bf16]);
  if (!bf16 || !__builtin_cpu_supports("avx512bf16") || limit < Isa::kAvx512Bf16) return supported;
  static const KernelSet avx512bf16_set = avx512bf16::MakeKernels(true);
  supported.push_back(&avx512bf16_set);
  if (limit < Isa::kAmx || !TilesAllowed()) return supported;
  static const KernelSet amx_set = AmxKernels();
  if (TilesWork(amx_set)) supported.push_back(&amx_set);
  return supported;
}

}  // namespace deltaworks::trainer
