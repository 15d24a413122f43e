// The tokenizer's own contract: options, decoding, streams, and the refusal of every tokenizer.json
// that it would not tokenise as the original does. Equality with the original is golden_test's.

#include "trainer/tokenizer/tokenizer.h"

#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/tokenizer/decode_stream.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// "é" is C3 A9; U+0120 stands for the space.
constexpr char kTokenizerJson[] = R"({
  "added_tokens": [
    {"id": 0, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
     "normalized": false, "special": true},
    {"id": 8, "content": "<tool>", "single_word": false, "lstrip": false, "rstrip": false,
     "normalized": false, "special": false}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<end>"}}, {"Sequence": {"id": "A"}}],
    "special_tokens": {"<end>": {"ids": [0]}}},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "unk_token": null,
    "vocab": {"<end>": 0, "a": 1, "b": 2, "Ġ": 3, "ab": 4, "Ã": 5, "©": 6, "Ġab": 7},
    "merges": ["a b", ["Ġ", "ab"]]}
})";

constexpr char kConfigJson[] =
    R"({"eos_token": "<end>", "bos_token": {"content": "a"}, "pad_token": null})";

std::unique_ptr<const Tokenizer> MakeTokenizer() {
  auto tokenizer = Tokenizer::Parse(kTokenizerJson, kConfigJson);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// What is said about kTokenizerJson with the merge patch `patch` applied.
std::string Refusal(const std::string& patch) {
  Json file = ParseJson(kTokenizerJson, "test").value();
  file.merge_patch(ParseJson(patch, "patch").value());
  const absl::Status status = Tokenizer::Parse(JsonText(file), "").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << patch << ": " << status;
  return std::string(status.message());
}

TEST(TokenizerTest, WordsAreMergedAndSpacesKept) {
  EXPECT_THAT(*MakeTokenizer()->Encode("ab ab b"), ElementsAre(4, 7, 3, 2));
  EXPECT_THAT(*MakeTokenizer()->Encode(""), IsEmpty());
}

TEST(TokenizerTest, SpecialTokensAreReadInTrustedTextOnly) {
  const auto tokenizer = MakeTokenizer();
  EXPECT_THAT(*tokenizer->Encode("a<end>b", {.parse_special = true}), ElementsAre(1, 0, 2));
  // The vocabulary of this test lacks the letters of "<end>", so they are dropped.
  EXPECT_THAT(*tokenizer->Encode("a<end>b"), ElementsAre(1, 2));
  EXPECT_THAT(*tokenizer->Encode("a<tool>b"), ElementsAre(1, 8, 2));
  EXPECT_TRUE(tokenizer->HasSpecial("a<end>b"));
  EXPECT_FALSE(tokenizer->HasSpecial("a<tool>b<end"));
}

TEST(TokenizerTest, ThePostProcessorsTokensAreAddedOnRequest) {
  EXPECT_THAT(*MakeTokenizer()->Encode("a", {.add_special = true}), ElementsAre(0, 1));
  EXPECT_THAT(*MakeTokenizer()->Encode("", {.add_special = true}), ElementsAre(0));
}

TEST(TokenizerTest, TokensAreFoundByTextAndGiveTheirBytes) {
  const auto tokenizer = MakeTokenizer();
  EXPECT_EQ(tokenizer->vocab_size(), 9);
  EXPECT_EQ(tokenizer->TokenId("\u0120ab"), 7);
  EXPECT_EQ(tokenizer->TokenId(" ab"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(7), " ab");
  EXPECT_EQ(tokenizer->TokenBytes(5), "\xC3");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(9), "");
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_FALSE(tokenizer->IsSpecial(8));
  EXPECT_FALSE(tokenizer->IsSpecial(1000));
}

TEST(TokenizerTest, TheConfigNamesTheSpecialIds) {
  const auto tokenizer = MakeTokenizer();
  EXPECT_EQ(tokenizer->eos_id(), 0);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_THAT(Tokenizer::Parse(kTokenizerJson, R"({"pad_token": "[PAD]"})").status().message(),
              HasSubstr("pad_token is \"[PAD]\", want a token of tokenizer.json"));
  EXPECT_THAT(Tokenizer::Parse(kTokenizerJson, R"({"eos_token": 3})").status().message(),
              HasSubstr("eos_token is 3, want a string"));
  EXPECT_THAT(Tokenizer::Parse(kTokenizerJson, "[]").status().message(),
              HasSubstr("is no JSON object"));
}

TEST(TokenizerTest, DecodingSkipsSpecialTokensOnRequestAndUnknownIdsAlways) {
  const auto tokenizer = MakeTokenizer();
  const std::vector<int32_t> ids = {4, 0, 7, 8, -5, 99};
  EXPECT_EQ(tokenizer->Decode(ids, false), "ab<end> ab<tool>");
  EXPECT_EQ(tokenizer->Decode(ids, true), "ab ab<tool>");
  const std::vector<int32_t> broken = {5, 1};
  EXPECT_EQ(tokenizer->Decode(broken, true),
            "\uFFFD"
            "a");
}

TEST(DecodeStreamTest, ACharacterIsHeldBackUntilItIsComplete) {
  const auto tokenizer = MakeTokenizer();
  DecodeStream stream(*tokenizer, /*skip_special=*/true);
  EXPECT_EQ(stream.Push(4), "ab");
  EXPECT_EQ(stream.Push(5), "");
  EXPECT_EQ(stream.Push(0), "");
  EXPECT_EQ(stream.Push(6), "\u00E9");
  EXPECT_EQ(stream.Push(5), "");
  EXPECT_EQ(stream.Push(1),
            "\uFFFD"
            "a");
  EXPECT_EQ(stream.Push(5), "");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(DecodeStreamTest, TheStreamAndTheWholeAgreeForEveryShortSequence) {
  const auto tokenizer = MakeTokenizer();
  const int32_t size = tokenizer->vocab_size();
  for (int32_t code = 0; code < size * size * size * size; ++code) {
    std::vector<int32_t> ids;
    for (int32_t rest = code; rest > 0; rest /= size) ids.push_back(rest % size);
    DecodeStream stream(*tokenizer, /*skip_special=*/false);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.Push(id);
    streamed += stream.Finish();
    ASSERT_EQ(streamed, tokenizer->Decode(ids, false)) << code;
  }
}

TEST(TokenizerTest, ManyThreadsMayEncodeAtOnce) {
  const auto tokenizer = MakeTokenizer();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 200; ++k) {
        EXPECT_THAT(*tokenizer->Encode("ab ab\xFF b"), ElementsAre(4, 7, 3, 2));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TokenizerTest, FoldersNeedATokenizerJsonOnly) {
  const std::string folder = absl::StrCat(::testing::TempDir(), "/tokenizer_test");
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(MakeDirectories(folder).ok());
  EXPECT_TRUE(absl::IsNotFound(Tokenizer::FromFolder(folder).status()));
  ASSERT_TRUE(WriteFileAtomically(folder + "/tokenizer.json", kTokenizerJson).ok());
  auto tokenizer = Tokenizer::FromFolder(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_id(), std::nullopt);
  ASSERT_TRUE(WriteFileAtomically(folder + "/tokenizer_config.json", "{").ok());
  EXPECT_THAT(Tokenizer::FromFolder(folder).status().message(),
              HasSubstr("tokenizer_test/tokenizer_config.json: not JSON at byte"));
}

TEST(TokenizerTest, ATextBeyondTheLimitIsAnError) {
  const std::string text(kEncodeBytesMax + 1, 'a');
  EXPECT_TRUE(absl::IsInvalidArgument(MakeTokenizer()->Encode(text).status()));
}

TEST(TokenizerTest, WhatIsNotSupportedIsRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"model": {"type": "WordPiece"}})", "model is of type \"WordPiece\", supported: BPE"},
      {R"({"model": {"dropout": 0.1}})", "dropout is 0.1"},
      {R"({"model": {"byte_fallback": true}})", "byte_fallback is true"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})", "end_of_word_suffix"},
      {R"({"model": {"continuing_subword_prefix": "##"}})", "continuing_subword_prefix"},
      {R"({"normalizer": {"type": "Lowercase"}})",
       "normalizer is of type \"Lowercase\", supported: NFC"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}})", "NFKC"},
      {R"({"pre_tokenizer": null})", "no ByteLevel at its end"},
      {R"({"pre_tokenizer": {"type": "Metaspace"}})", "Metaspace"},
      {R"({"pre_tokenizer": {"type": "Digits", "individual_digits": true}})",
       "no ByteLevel at its end"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
          {"type": "ByteLevel", "add_prefix_space": false},
          {"type": "Digits", "individual_digits": true}]}})",
       "Digits after ByteLevel"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
          {"type": "Split", "pattern": {"Regex": "\\w"}, "behavior": "Isolated"},
          {"type": "ByteLevel", "add_prefix_space": false}]}})",
       "pre_tokenizer step 1: the pattern uses \\w"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
          {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Sideways"}]}})",
       "behavior is \"Sideways\""},
      {R"({"post_processor": {"type": "BertProcessing"}})", "BertProcessing"},
      {R"({"decoder": null})", "decoder: type is absent"},
      {R"({"decoder": {"type": "WordPiece"}})", "supported: ByteLevel"},
  };
  for (const auto& [patch, what] : cases) EXPECT_THAT(Refusal(patch), HasSubstr(what)) << patch;
}

TEST(TokenizerTest, AddedTokensMustBeWhatTheOriginalWouldMakeOfThem) {
  const auto with = [](const std::string& fields) {
    Json token = ParseJson(R"({"id": 8, "content": "<x>", "single_word": false, "lstrip": false,
                               "rstrip": false, "normalized": false, "special": true})",
                           "token")
                     .value();
    token.merge_patch(ParseJson(fields, "fields").value());
    return Refusal(JsonText(Json{{"added_tokens", {token}}}));
  };
  EXPECT_THAT(with(R"({"single_word": true})"), HasSubstr("single_word of \"<x>\" is true"));
  EXPECT_THAT(with(R"({"id": 9})"), HasSubstr("the id of \"<x>\" is 9, want 8"));
  EXPECT_THAT(with(R"({"content": "ab"})"), HasSubstr("the id of \"ab\" is 8, want 4"));
  EXPECT_THAT(with(R"({"content": ""})"), HasSubstr("has 0 bytes"));
  EXPECT_THAT(with(R"({"id": null})"), HasSubstr("has no id"));
  EXPECT_THAT(with(R"({"id": -1})"), HasSubstr("want 0..2097151"));
  EXPECT_THAT(with(R"({"lstrip": "no"})"), HasSubstr("lstrip is \"no\", want true or false"));
}

TEST(TokenizerTest, LyingFilesAreRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"model": null})", "model is absent"},
      {R"({"model": {"vocab": null}})", "vocab is absent"},
      {R"({"model": {"vocab": ["a"]}})", "vocab is absent or no object"},
      {R"({"model": {"vocab": {"a": -1}}})", "want 0..2097151"},
      {R"({"model": {"vocab": {"a": 4000000000000}}})", "want 0..2097151"},
      {R"({"model": {"vocab": {"a": 18446744073709551615}}})", "want 0..2097151"},
      {R"({"model": {"vocab": {"a": 1.5}}})", "want 0..2097151"},
      {R"({"model": {"vocab": {"zz": 1}}})", "vocab gives id 1"},
      {R"({"model": {"vocab": {"zz": 100}}})", "whose ids have holes"},
      {R"({"model": {"merges": "a b"}})", "merges is absent or no list"},
      {R"({"model": {"merges": ["a"]}})", "a merge is \"a\""},
      {R"({"model": {"merges": ["a  b"]}})", "a merge is"},
      {R"({"model": {"merges": [["a", "b", "c"]]}})", "a merge is"},
      {R"({"model": {"merges": [["a", 1]]}})", "a merge is"},
      {R"({"model": {"merges": [["a", "q"]]}})", "needs the token \"q\""},
      {R"({"model": {"merges": [["b", "a"]]}})", "needs the token \"ba\""},
      {R"({"model": {"unk_token": "<unk>"}})", "unk_token \"<unk>\" is not in vocab"},
      {R"({"post_processor": {"special_tokens": {"<end>": {"ids": [77]}}}})", "id 77"},
      {R"({"post_processor": {"special_tokens": {"<end>": null}}})", "no ids for \"<end>\""},
      {R"({"post_processor": {"single": [{"SpecialToken": {"id": "<end>"}}]}})", "no Sequence"},
  };
  for (const auto& [patch, what] : cases) EXPECT_THAT(Refusal(patch), HasSubstr(what)) << patch;
}

TEST(TokenizerTest, NoPrefixOrMutationOfAFileCrashes) {
  // The fuzzer goes further; this keeps the cheap half of its findings out.
  const std::string json = kTokenizerJson;
  int parsed = 0;
  for (size_t i = 0; i < json.size(); ++i) {
    EXPECT_FALSE(Tokenizer::Parse(json.substr(0, i), "").ok());
    for (const char c : {'"', '{', ']', ',', '0', '\\', '\xFF'}) {
      std::string mutated = json;
      mutated[i] = c;
      const auto tokenizer = Tokenizer::Parse(mutated, "");
      if (!tokenizer.ok()) continue;
      ++parsed;
      EXPECT_TRUE((*tokenizer)->Encode("ab <end>\xC3\xA9", {.parse_special = true}).ok());
    }
  }
  EXPECT_GT(parsed, 100);
}

}  // namespace
}  // namespace deltaworks::trainer
