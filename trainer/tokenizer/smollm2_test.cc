// SmolLM2-135M-Instruct's tokenizer, as imported, against Hugging Face tokenizers: 10,000 odd lines
// and every code point of Unicode. Needs the imported folder in DELTAWORKS_SMOLLM2_F32.

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/tokenizer/byte_alphabet.h"
#include "trainer/tokenizer/chat_template.h"
#include "trainer/tokenizer/golden_file.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const char kFolder[] = "tests/golden/tokenizer/";

double ThreadCpuSeconds() {
  timespec now;
  EXPECT_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class SmolLm2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const folder = std::getenv("DELTAWORKS_SMOLLM2_F32");
    ASSERT_NE(folder, nullptr) << "DELTAWORKS_SMOLLM2_F32 is not set, want the imported folder";
    auto tokenizer = Tokenizer::FromFolder(folder);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_F(SmolLm2Test, DigitsAreSplit) {
  EXPECT_THAT(*tokenizer_->Encode("a  2"), ElementsAre(81, 256, 34));
}

TEST_F(SmolLm2Test, TheConfigNamesTheSpecialTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), 49152);
  EXPECT_EQ(tokenizer_->bos_id(), 1);
  EXPECT_EQ(tokenizer_->eos_id(), 2);
  EXPECT_EQ(tokenizer_->pad_id(), 2);
}

TEST_F(SmolLm2Test, TwentyOneBytesHaveNoTokenAndAreDropped) {
  std::vector<int> absent;
  for (int byte = 0; byte < 256; ++byte) {
    if (!tokenizer_->TokenId(ByteToAlphabet(static_cast<uint8_t>(byte)))) absent.push_back(byte);
  }
  EXPECT_THAT(absent, ElementsAre(0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, 0xF5,
                                  0xF6, 0xF7, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF));
  for (const int byte : absent) {
    if (byte >= 0x80) continue;  // Alone not UTF-8.
    EXPECT_THAT(*tokenizer_->Encode(std::string(1, static_cast<char>(byte))), IsEmpty()) << byte;
  }
}

// The ids are transformers' of apply_chat_template().
TEST_F(SmolLm2Test, AChatBecomesTheTokensOfTheOriginal) {
  const auto chat = ChatTemplate::FromFolder(std::getenv("DELTAWORKS_SMOLLM2_F32"));
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto text = (*chat)->Render({{"user", "Hello"}}, /*add_generation_prompt=*/true);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(
      *tokenizer_->Encode(*text, {.parse_special = true}),
      ElementsAre(1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018,
                  411, 407, 19712, 8182, 2, 198, 1, 4093, 198, 19556, 2, 198, 1, 520, 9531, 198));
}

TEST_F(SmolLm2Test, IdsAndTextsOf10000OddLinesAreThoseOfTheOriginal) {
  const auto report = CompareGolden(*tokenizer_, std::string(kFolder) + "smollm2.golden");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->compared, 10000);
  EXPECT_THAT(report->differences, IsEmpty());
}

TEST_F(SmolLm2Test, EveryCodePointIsCutAsTheOriginalCutsIt) {
  const auto report = CompareSweep(*tokenizer_, std::string(kFolder) + "smollm2.sweep");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->differences, IsEmpty());
}

// Processor time, the best of five turns: what the code can do on a machine that others use too.
TEST_F(SmolLm2Test, EnglishIsEncodedAtTwoMegabytesPerSecondAtLeast) {
  const auto texts = GoldenTexts(std::string(kFolder) + "smollm2.golden");
  ASSERT_TRUE(texts.ok()) << texts.status();
  std::string english;
  for (const std::string& text : *texts) {
    const bool plain = text.size() > 40 && std::all_of(text.begin(), text.end(), [](char c) {
                         return c == ' ' || (c > ' ' && c < 0x7F);
                       });
    if (plain) english += text + "\n";
  }
  ASSERT_GT(english.size(), 50'000);
  double mb_per_s = 0;
  for (int turn = 0; turn < 5; ++turn) {
    const double start_s = ThreadCpuSeconds();
    ASSERT_TRUE(tokenizer_->Encode(english).ok());
    const double seconds = ThreadCpuSeconds() - start_s;
    mb_per_s = std::max(mb_per_s, static_cast<double>(english.size()) / 1e6 / seconds);
  }
  std::cout << "encoded " << english.size() << " bytes at " << mb_per_s << " MB/s\n";
  RecordProperty("encode_mb_per_s", std::to_string(mb_per_s));
  EXPECT_GE(mb_per_s, 2.0);
}

}  // namespace
}  // namespace deltaworks::trainer
