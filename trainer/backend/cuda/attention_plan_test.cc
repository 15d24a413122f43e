#include "trainer/backend/cuda/attention_plan.h"

#include <utility>

#include "gtest/gtest.h"

namespace deltaworks::trainer::cuda {
namespace {

using Pairs = std::vector<std::pair<int, int>>;

Pairs ToPairs(const std::vector<Piece>& pieces) {
  Pairs pairs;
  for (const Piece& piece : pieces) pairs.emplace_back(piece.span, piece.tile);
  return pairs;
}

TEST(AttentionPlanTest, TilesWithMostKeysComeFirst) {
  const std::vector<Span> spans = {{0, 300, 0, 300}, {300, 301, 300, 450}};
  EXPECT_EQ(ToPairs(QueryPieces(spans, true)), (Pairs{{0, 2}, {0, 1}, {1, 0}, {0, 0}}));
  EXPECT_EQ(ToPairs(QueryPieces(spans, false)), (Pairs{{0, 0}, {0, 1}, {0, 2}, {1, 0}}));
}

TEST(AttentionPlanTest, FirstKeysAreSeenByMostQueries) {
  const std::vector<Span> spans = {{0, 1, 0, 1}, {1, 131, 1, 131}};
  EXPECT_EQ(ToPairs(KeyPieces(spans, true)), (Pairs{{1, 0}, {1, 1}, {1, 2}, {0, 0}}));
}

TEST(AttentionPlanTest, KeysBeforeTheQueriesAreSeenByAll) {
  // Queries stand at keys 190 to 199: tiles 0 and 1 are seen by all ten, and so is 2, which begins
  // at 128; tile 3 begins at 192.
  const std::vector<Span> spans = {{0, 10, 0, 200}, {10, 19, 200, 209}};
  EXPECT_EQ(ToPairs(KeyPieces(spans, true)), (Pairs{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {0, 3}}));
}

TEST(AttentionPlanTest, SpansWithoutQueriesHaveOnlyKeys) {
  const std::vector<Span> spans = {{5, 5, 0, 70}};
  EXPECT_TRUE(QueryPieces(spans, true).empty());
  EXPECT_TRUE(SingleQueries(spans, true).empty());
  EXPECT_EQ(ToPairs(KeyPieces(spans, true)), (Pairs{{0, 0}, {0, 1}}));
  EXPECT_EQ(ToPairs(KeyPieces(spans, false)), (Pairs{{0, 0}, {0, 1}}));
}

TEST(AttentionPlanTest, EachQueryOfADecodingStepIsAPiece) {
  const std::vector<Span> spans = {{0, 1, 0, 17}, {1, 3, 20, 60}};
  EXPECT_EQ(ToPairs(SingleQueries(spans, true)), (Pairs{{1, 1}, {1, 0}, {0, 0}}));
  EXPECT_EQ(LongestKeys(spans), 40);
  EXPECT_EQ(LongestKeys({}), 0);
}

}  // namespace
}  // namespace deltaworks::trainer::cuda
