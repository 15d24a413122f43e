#include "trainer/train/data_order.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

TEST(DataOrderTest, AnEpochIsAPermutationOfItsOwn) {
  std::vector<int64_t> first = EpochOrder(1, 0, 100), second = EpochOrder(1, 1, 100);
  EXPECT_NE(first, second);
  EXPECT_NE(first, EpochOrder(2, 0, 100));
  EXPECT_EQ(first, EpochOrder(1, 0, 100));
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(first[i], i);
}

TEST(DataOrderTest, TheStepsOfAnEpochAreItsOrder) {
  std::vector<int64_t> seen;
  for (int64_t step = 3; step < 6; ++step) {
    const std::vector<int64_t> examples = ExamplesOfStep(7, step, 4, 10);
    EXPECT_EQ(examples.size(), step == 5 ? 2u : 4u);
    seen.insert(seen.end(), examples.begin(), examples.end());
  }
  EXPECT_EQ(seen, EpochOrder(7, 1, 10));
}

TEST(DataOrderTest, EveryPlaceIsEquallyLikely) {
  int counts[3] = {};
  for (uint64_t seed = 0; seed < 3000; ++seed) ++counts[EpochOrder(seed, 0, 3)[0]];
  // 1,000 each, deviation 26: four of them.
  for (const int count : counts) EXPECT_NEAR(count, 1000, 104);
}

}  // namespace
}  // namespace deltaworks::trainer
