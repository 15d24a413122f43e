// The heap against the definition: apply the merge of lowest rank, the leftmost first, until none
// applies.

#include "trainer/tokenizer/bpe.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/tokenizer/byte_alphabet.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> Encode(const Bpe& bpe, absl::string_view word) {
  Bpe::Scratch scratch;
  std::vector<int32_t> ids;
  bpe.Encode(word, &scratch, &ids);
  return ids;
}

// Tokens a, b, c and `count` merges of random pairs that make new tokens.
TokenizerSpec RandomSpec(std::mt19937& random, int count) {
  TokenizerSpec spec;
  std::map<std::string, int32_t> ids;
  const auto add = [&](const std::string& text) {
    const int32_t id = static_cast<int32_t>(ids.size());
    if (!ids.emplace(text, id).second) return false;
    spec.vocab.push_back({text, id});
    return true;
  };
  for (const char* letter : {"a", "b", "c"}) add(letter);
  for (int i = 0; i < count; ++i) {
    const TokenSpec left = spec.vocab[random() % spec.vocab.size()];
    const TokenSpec right = spec.vocab[random() % spec.vocab.size()];
    if (left.text.size() + right.text.size() > 9 || !add(left.text + right.text)) continue;
    spec.merges.push_back({left.id, right.id, spec.vocab.back().id});
  }
  return spec;
}

std::vector<int32_t> ByDefinition(const TokenizerSpec& spec, const std::string& word) {
  std::vector<int32_t> ids;
  for (const char c : word) ids.push_back(c - 'a');
  for (bool merged = true; merged;) {
    merged = false;
    for (const MergeSpec& merge : spec.merges) {
      for (size_t i = 0; i + 1 < ids.size() && !merged; ++i) {
        if (ids[i] != merge.left || ids[i + 1] != merge.right) continue;
        ids[i] = merge.merged;
        ids.erase(ids.begin() + i + 1);
        merged = true;
      }
      if (merged) break;
    }
  }
  return ids;
}

TEST(BpeTest, RandomWordsAreEncodedByTheDefinition) {
  const uint32_t seed = 20240611;
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    const TokenizerSpec spec = RandomSpec(random, 40);
    const Bpe bpe(spec);
    for (int i = 0; i < 50; ++i) {
      std::string word;
      const int size = static_cast<int>(random() % 40);
      for (int k = 0; k < size; ++k) word += static_cast<char>('a' + random() % 3);
      ASSERT_EQ(Encode(bpe, word), ByDefinition(spec, word))
          << word << ", seed " << seed << ", round " << round;
    }
  }
}

TEST(BpeTest, AWordOfTwoMillionBytesTakesNoQuadraticTime) {
  TokenizerSpec spec;
  spec.vocab = {{"a", 0}, {"aa", 1}, {"aaaa", 2}, {"aaaaaaaa", 3}};
  spec.merges = {{0, 0, 1}, {1, 1, 2}, {2, 2, 3}};
  EXPECT_EQ(Encode(Bpe(spec), std::string(2'000'001, 'a')).size(), 250'001);
}

TEST(BpeTest, AByteWithoutATokenIsDroppedAndItsNeighboursMerge) {
  TokenizerSpec spec;
  spec.vocab = {{"a", 0}, {"b", 1}, {"ab", 2}};
  spec.merges = {{0, 1, 2}};
  EXPECT_THAT(Encode(Bpe(spec),
                     "a\x04"
                     "b"),
              ElementsAre(2));
  EXPECT_THAT(Encode(Bpe(spec), "\x04"), IsEmpty());
}

TEST(BpeTest, UnknownBytesBecomeTheUnknownTokenOneByOneOrTogether) {
  TokenizerSpec spec;
  spec.vocab = {{"a", 0}, {"<unk>", 1}};
  spec.unk_id = 1;
  EXPECT_THAT(Encode(Bpe(spec), "xxaxx"), ElementsAre(1, 1, 0, 1, 1));
  spec.fuse_unk = true;
  EXPECT_THAT(Encode(Bpe(spec), "xxaxx"), ElementsAre(1, 0, 1));
}

TEST(BpeTest, WithIgnoreMergesAWholeWordOfTheVocabularyIsOneToken) {
  TokenizerSpec spec;
  spec.vocab = {{"a", 0}, {"b", 1}, {"aba", 2}};
  EXPECT_THAT(Encode(Bpe(spec), "aba"), ElementsAre(0, 1, 0));
  spec.ignore_merges = true;
  EXPECT_THAT(Encode(Bpe(spec), "aba"), ElementsAre(2));
  EXPECT_THAT(Encode(Bpe(spec), "ab"), ElementsAre(0, 1));
}

TEST(ByteAlphabetTest, EveryByteSurvivesTheAlphabet) {
  std::string bytes, text;
  for (int byte = 0; byte < 256; ++byte) {
    bytes.push_back(static_cast<char>(byte));
    text += ByteToAlphabet(static_cast<uint8_t>(byte));
  }
  EXPECT_EQ(AlphabetToBytes(text), bytes);
  EXPECT_EQ(ByteToAlphabet(' '), "\u0120");
  EXPECT_EQ(ByteToAlphabet('a'), "a");
}

TEST(ByteAlphabetTest, ATokenWithAnotherCharacterStandsForItself) {
  EXPECT_EQ(AlphabetToBytes("\u0120\u4E2D"), "\u0120\u4E2D");
}

}  // namespace
}  // namespace deltaworks::trainer
