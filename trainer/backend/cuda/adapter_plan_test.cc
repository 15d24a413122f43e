// Where adapters' columns stand is what keeps one job's numbers out of another's: these tests look
// at each column of plans with segments that adapt different linears, with gaps, and with more
// columns than a weight has room for.

#include "trainer/backend/cuda/adapter_plan.h"

#include <deque>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer::cuda {
namespace {

using ::testing::ElementsAre;

class AdapterPlanTest : public ::testing::Test {
 protected:
  // Ranks of the linears; 0: not adapted.
  Segment Of(int64_t begin, int64_t end, const std::vector<int64_t>& ranks, float dropout = 0) {
    Segment segment;
    segment.row_begin = begin;
    segment.row_end = end;
    segment.dropout = {dropout, /*seed=*/0x100000002, /*step=*/3, /*site=*/0x501, /*token=*/9};
    for (const int64_t rank : ranks) {
      if (rank == 0) {
        segment.adapters.push_back(nullptr);
        continue;
      }
      LoraPair& pair = pairs_.emplace_back();
      pair.a = ConstTensorView(&pair, DType::kF32, {rank, 4});
      pair.b = ConstTensorView(&pair, DType::kF32, {4, rank});
      pair.scale = static_cast<float>(rank);
      segment.adapters.push_back(&pair);
    }
    return segment;
  }

  std::deque<LoraPair> pairs_;
};

std::vector<int64_t> Begins(const std::vector<AdapterPart>& parts) {
  std::vector<int64_t> begins;
  for (const AdapterPart& part : parts) begins.push_back(part.rows.begin);
  return begins;
}

TEST_F(AdapterPlanTest, PlannedRowsHaveTheSlicesOfAPlanAndNoColumns) {
  const std::vector<Segment> segments = {Of(0, 3, {8, 0, 3}), Of(3, 3, {1, 1, 1}),
                                         Of(4, 6, {0, 0, 0}), Of(6, 9, {0, 300, 5}, 0.25f)};
  const AdapterPart rows = PlanRows(segments, 3, 11);
  const AdapterPart plan = PlanAdapters(segments, 3, 11, /*width_max=*/1000).front();
  EXPECT_EQ(rows.rows.begin, 0);
  EXPECT_EQ(rows.rows.rows, 11);
  EXPECT_EQ(rows.group_width(), 0);
  EXPECT_EQ(rows.linear_width_max(), 0);
  ASSERT_EQ(rows.segments.size(), plan.segments.size());
  for (size_t i = 0; i < plan.segments.size(); ++i) {
    EXPECT_EQ(rows.segments[i].row_begin, plan.segments[i].row_begin);
    EXPECT_EQ(rows.segments[i].slice_end, plan.segments[i].slice_end);
    EXPECT_EQ(rows.segments[i].threshold, plan.segments[i].threshold);
  }
  ASSERT_EQ(rows.slices.size(), 4u);
  for (size_t i = 0; i < rows.slices.size(); ++i) {
    EXPECT_EQ(rows.slices[i].a, plan.slices[i].a);
    EXPECT_EQ(rows.slices[i].rank, plan.slices[i].rank);
    EXPECT_EQ(rows.slices[i].linear, plan.slices[i].linear);
    EXPECT_EQ(rows.slices[i].hidden_column, plan.slices[i].hidden_column);
  }
}

TEST_F(AdapterPlanTest, WithoutAdaptersAllRowsAreOnePartWithoutColumns) {
  const auto parts = PlanAdapters({Of(0, 5, {0, 0})}, /*linears=*/2, /*rows=*/9, 256);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].rows.begin, 0);
  EXPECT_EQ(parts[0].rows.rows, 9);
  EXPECT_EQ(parts[0].group_width(), 0);
  EXPECT_EQ(parts[0].linear_width_max(), 0);
  EXPECT_TRUE(parts[0].segments.empty());
}

TEST_F(AdapterPlanTest, SlicesStandSideBySideEachFilledUpToWholeTiles) {
  const auto parts =
      PlanAdapters({Of(0, 5, {3, 0, 8}), Of(5, 5, {8, 8, 8}), Of(7, 9, {9, 1, 0})}, 3, 9, 256);
  ASSERT_EQ(parts.size(), 1u);
  const AdapterPart& part = parts[0];
  ASSERT_EQ(part.segments.size(), 2u) << "a segment without rows takes no part";
  ASSERT_EQ(part.slices.size(), 4u);
  std::vector<int> hidden, group, linear_column, linear;
  for (const Slice& slice : part.slices) {
    hidden.push_back(slice.hidden_column);
    group.push_back(slice.group_column);
    linear_column.push_back(slice.linear_column);
    linear.push_back(slice.linear);
    EXPECT_EQ(slice.scale, slice.rank);
  }
  EXPECT_THAT(hidden, ElementsAre(0, 3, 0, 9));
  EXPECT_THAT(group, ElementsAre(0, 16, 32, 48));
  EXPECT_THAT(linear_column, ElementsAre(0, 0, 16, 0));
  EXPECT_THAT(linear, ElementsAre(0, 2, 0, 1));
  EXPECT_EQ(part.group_width(), 64);
  EXPECT_EQ(part.linear_width(0), 32);
  EXPECT_EQ(part.linear_width(1), 16);
  EXPECT_EQ(part.linear_width(2), 16);
}

TEST_F(AdapterPlanTest, EveryColumnIsThatOfItsSliceOrOfNone) {
  const auto parts = PlanAdapters({Of(0, 5, {3, 8}), Of(5, 9, {9, 0})}, 2, 9, 256);
  const AdapterPart& part = parts[0];
  for (int linear = -1; linear < 2; ++linear) {
    const auto& columns = linear < 0 ? part.group_columns : part.linear_columns[linear];
    int of_slices = 0;
    for (size_t s = 0; s < part.slices.size(); ++s) {
      const Slice& slice = part.slices[s];
      if (linear >= 0 && slice.linear != linear) continue;
      const int begin = linear < 0 ? slice.group_column : slice.linear_column;
      EXPECT_EQ(begin % kColumnMultiple, 0);
      for (int r = 0; r < slice.rank; ++r) {
        EXPECT_EQ(columns[begin + r].slice, static_cast<int>(s));
        EXPECT_EQ(columns[begin + r].rank_index, r);
        ++of_slices;
      }
    }
    for (const Column& column : columns) of_slices -= column.slice >= 0;
    EXPECT_EQ(of_slices, 0) << "a column has a slice that does not stand there";
  }
}

TEST_F(AdapterPlanTest, MoreColumnsThanThereIsRoomForAreSeveralPartsThatCoverAllRows) {
  std::vector<Segment> segments;
  for (int i = 0; i < 5; ++i) segments.push_back(Of(10 * i + 2, 10 * i + 9, {100, 8}));
  const auto parts = PlanAdapters(segments, 2, 60, 256);
  EXPECT_THAT(Begins(parts), ElementsAre(0, 22, 42));
  int64_t row = 0;
  for (const AdapterPart& part : parts) {
    EXPECT_EQ(part.rows.begin, row);
    EXPECT_LE(part.linear_width_max(), 256);
    for (const SegmentRows& segment : part.segments) {
      EXPECT_GE(segment.row_begin, part.rows.begin);
      EXPECT_LE(segment.row_end, part.rows.begin + part.rows.rows);
    }
    row += part.rows.rows;
  }
  EXPECT_EQ(row, 60);
}

TEST_F(AdapterPlanTest, ASegmentWiderThanTheRoomIsAPartOfItsOwn) {
  const auto parts = PlanAdapters({Of(0, 3, {8}), Of(3, 6, {300}), Of(6, 9, {8})}, 1, 9, 256);
  EXPECT_THAT(Begins(parts), ElementsAre(0, 3, 6));
  EXPECT_EQ(parts[1].linear_width_max(), 304);
}

TEST_F(AdapterPlanTest, DropoutIsThatOfTheSegmentsKey) {
  const auto parts = PlanAdapters({Of(0, 3, {8}), Of(3, 6, {8}, 0.25f)}, 1, 6, 256);
  const AdapterPart& part = parts[0];
  EXPECT_TRUE(part.dropout);
  EXPECT_EQ(part.segments[0].threshold, 0u);
  const SegmentRows& dropped = part.segments[1];
  EXPECT_EQ(dropped.threshold, DropoutThreshold(0.25f));
  EXPECT_EQ(dropped.keep_scale, 1 / 0.75f);
  EXPECT_EQ(dropped.seed_low, 2u);
  EXPECT_EQ(dropped.seed_high, 1u);
  EXPECT_EQ(dropped.step, 3u);
  EXPECT_EQ(dropped.site, 0x501u);
  EXPECT_EQ(dropped.token, 9u);
  EXPECT_FALSE(PlanAdapters({Of(0, 3, {8})}, 1, 6, 256)[0].dropout);
}

}  // namespace
}  // namespace deltaworks::trainer::cuda
