// What is shown while text is generated never changes afterwards and never holds a stop text.

#include "services/inference/text_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::services {
namespace {

class TextStreamTest : public ::testing::Test {
 protected:
  TextStreamTest()
      : tokenizer_(
            *trainer::Tokenizer::Parse(trainer::TinyTokenizerJson(trainer::MakeTinyModel()), "")) {}

  // The tokens of these bytes, one for each.
  std::vector<int32_t> Bytes(const std::string& text) const {
    std::vector<int32_t> ids;
    for (const char c : text) {
      for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
        if (tokenizer_->TokenBytes(id) == absl::string_view(&c, 1)) ids.push_back(id);
      }
    }
    EXPECT_EQ(ids.size(), text.size());
    return ids;
  }

  // What each token gave, then what the end gave.
  std::vector<std::string> Pieces(const std::string& text, std::vector<std::string> stop) {
    TextStream stream(*tokenizer_, std::move(stop));
    std::vector<std::string> pieces;
    for (const int32_t id : Bytes(text)) {
      pieces.push_back(stream.Push(id));
      if (stream.stopped()) break;
    }
    pieces.push_back(stream.Finish());
    stopped_ = stream.stopped();
    return pieces;
  }

  using Texts = std::vector<std::string>;
  const std::unique_ptr<const trainer::Tokenizer> tokenizer_;
  bool stopped_ = false;
};

TEST_F(TextStreamTest, TextIsGivenAsItComes) {
  EXPECT_EQ(Pieces("abc", {}), Texts({"a", "b", "c", ""}));
  EXPECT_FALSE(stopped_);
}

TEST_F(TextStreamTest, ACharacterIsHeldBackUntilItIsWhole) {
  EXPECT_EQ(Pieces("a\xE2\x82\xAC", {}), Texts({"a", "", "", "\xE2\x82\xAC", ""}));
  EXPECT_EQ(Pieces("a\xE2\x82", {}), Texts({"a", "", "", "\xEF\xBF\xBD"}));
}

TEST_F(TextStreamTest, TextThatCouldBecomeAStopTextIsHeldBack) {
  EXPECT_EQ(Pieces("aENDED", {"END."}), Texts({"a", "", "", "", "END", "ED", ""}));
  EXPECT_FALSE(stopped_);
  EXPECT_EQ(Pieces("aEN", {"END."}), Texts({"a", "", "", "EN"}));
}

TEST_F(TextStreamTest, NothingOfAStopTextIsGivenOut) {
  EXPECT_EQ(Pieces("aabEND", {"END"}), Texts({"a", "a", "b", "", "", "", ""}));
  EXPECT_TRUE(stopped_);
  // The first of several, though another one is being waited for.
  EXPECT_EQ(Pieces("xabcd", {"abcz", "c"}), Texts({"x", "", "", "ab", ""}));
  EXPECT_TRUE(stopped_);
}

TEST_F(TextStreamTest, AStopTextOfBytesThatRepeatIsFound) {
  EXPECT_EQ(Pieces("aaab", {"aab"}), Texts({"", "", "a", "", ""}));
  EXPECT_TRUE(stopped_);
}

}  // namespace
}  // namespace deltaworks::services
