#include "trainer/backend/philox.h"

#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

// Known answers of the authors' Random123 library (kat_vectors, philox4x32 with 10 rounds).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32(0, {0, 0, 0, 0}),
            (PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32(0xffffffffffffffff, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}),
            (PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, TheDropoutThresholdIsTheShareOfWordsBelowIt) {
  EXPECT_EQ(DropoutThreshold(0.0f), 0u);
  EXPECT_EQ(DropoutThreshold(0.5f), 0x80000000u);
  int kept = 0;
  for (uint32_t quad = 0; quad < 2500; ++quad) {
    for (const uint32_t word :
         DropoutWords(/*seed=*/7, /*step=*/1, /*site=*/2, /*token=*/3, quad)) {
      kept += word >= DropoutThreshold(0.1f);
    }
  }
  // 9,000 expected of 10,000, standard deviation 30: five of them.
  EXPECT_NEAR(kept, 9000, 150);
}

}  // namespace
}  // namespace deltaworks::trainer
