// Fills the entries of a KernelSet that attention.cc, dot.cc and panel.cc define.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_ATTENTION_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_ATTENTION_H_

#include "trainer/backend/cpu/kernels/kernels.h"

namespace deltaworks::trainer::DW_ISA {

void AddAttention(bool bf16, KernelSet& set);
void AddDot(bool bf16, KernelSet& set);
void AddPanels(bool bf16, KernelSet& set);

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_ATTENTION_H_
