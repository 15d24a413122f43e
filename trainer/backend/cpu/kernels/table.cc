// The KernelSets of one instruction set. Compiled once for each.

#include "trainer/backend/cpu/kernels/attention.h"
#include "trainer/backend/cpu/kernels/elementwise.h"

#define DW_TEXT_(x) #x
#define DW_TEXT(x) DW_TEXT_(x)

namespace deltaworks::trainer::DW_ISA {

KernelSet MakeKernels(bool bf16) {
  KernelSet set = {};
  set.isa = DW_TEXT(DW_ISA);
  AddElementwise(bf16, set);
  AddAttention(bf16, set);
  AddDot(bf16, set);
  AddPanels(bf16, set);
  return set;
}

}  // namespace deltaworks::trainer::DW_ISA
