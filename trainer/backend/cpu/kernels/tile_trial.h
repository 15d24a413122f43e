// Whether tiles compute what they are defined to.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TILE_TRIAL_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TILE_TRIAL_H_

#include "trainer/backend/cpu/kernels/kernels.h"

namespace deltaworks::trainer {

// A product of `set`, which works on tiles, against TDPBF16PS written out for single elements: bit
// for bit, on numbers of many sizes. Takes a millisecond.
bool TileTrial(const KernelSet& set);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TILE_TRIAL_H_
