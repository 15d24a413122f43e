// The order in which a run sees its examples: each epoch a fresh permutation (Fisher-Yates with
// Philox words), a function of the seed and the epoch only.

#ifndef DELTAWORKS_TRAINER_TRAIN_DATA_ORDER_H_
#define DELTAWORKS_TRAINER_TRAIN_DATA_ORDER_H_

#include <cstdint>
#include <vector>

namespace deltaworks::trainer {

// A permutation of 0..examples-1.
std::vector<int64_t> EpochOrder(uint64_t seed, int64_t epoch, int64_t examples);

// The examples of step `step` (from 0). Steps do not cross epochs: the last one of an epoch may
// have fewer than `examples_per_step`.
std::vector<int64_t> ExamplesOfStep(uint64_t seed, int64_t step, int64_t examples_per_step,
                                    int64_t examples);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TRAIN_DATA_ORDER_H_
