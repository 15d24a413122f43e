#include "trainer/train/data_order.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "trainer/backend/philox.h"

namespace deltaworks::trainer {

std::vector<int64_t> EpochOrder(uint64_t seed, int64_t epoch, int64_t examples) {
  std::vector<int64_t> order(examples);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = examples - 1; i > 0; --i) {
    const PhiloxWords words =
        Philox4x32(seed, {static_cast<uint32_t>(epoch), kShuffleSite, static_cast<uint32_t>(i),
                          static_cast<uint32_t>(i >> 32)});
    // 64 random bits modulo at most 2^40 examples: the bias is below 2^-24.
    const uint64_t random = (uint64_t{words[0]} << 32) | words[1];
    std::swap(order[i], order[random % static_cast<uint64_t>(i + 1)]);
  }
  return order;
}

std::vector<int64_t> ExamplesOfStep(uint64_t seed, int64_t step, int64_t examples_per_step,
                                    int64_t examples) {
  const int64_t steps_per_epoch = (examples + examples_per_step - 1) / examples_per_step;
  const std::vector<int64_t> order = EpochOrder(seed, step / steps_per_epoch, examples);
  const int64_t begin = step % steps_per_epoch * examples_per_step;
  const int64_t end = std::min(begin + examples_per_step, examples);
  return {order.begin() + begin, order.begin() + end};
}

}  // namespace deltaworks::trainer
