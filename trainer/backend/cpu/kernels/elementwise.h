// Fills the entries of a KernelSet that elementwise.cc defines.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_ELEMENTWISE_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_ELEMENTWISE_H_

#include "trainer/backend/cpu/kernels/kernels.h"

namespace deltaworks::trainer::DW_ISA {

void AddElementwise(bool bf16, KernelSet& set);

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_ELEMENTWISE_H_
