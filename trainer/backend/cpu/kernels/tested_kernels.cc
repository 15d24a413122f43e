#include "trainer/backend/cpu/kernels/tested_kernels.h"

#include <string>

namespace deltaworks::trainer {

namespace amx_emulated {
void AddPanels(bool bf16, KernelSet& set);
}

std::vector<const KernelSet*> TestedKernels(DType compute_type) {
  std::vector<const KernelSet*> tested = SupportedKernels(compute_type);
  for (const KernelSet* set : tested) {
    if (set->isa != std::string("avx512bf16")) continue;
    static const KernelSet emulated = [&] {
      KernelSet result = *set;
      amx_emulated::AddPanels(/*bf16=*/true, result);
      result.isa = "amx_emulated";
      return result;
    }();
    tested.push_back(&emulated);
    break;
  }
  return tested;
}

}  // namespace deltaworks::trainer
