// Requests on bases of other kinds than the tiny model's: one whose tokenizer adds a first token,
// and one without a chat template.

#include "services/inference/request_checks.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/import/import.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kContext = 100;

class RequestChecksTest : public ::testing::Test {
 protected:
  // The tiny base, imported with another text in place of one of its files.
  static std::shared_ptr<LoadedBase> BaseWith(const std::string& file, const std::string& text) {
    const std::string folder = absl::StrCat(::testing::TempDir(), "/base_with_", file);
    std::filesystem::remove_all(folder);
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), folder + "/hf");
    CHECK(WriteFileAtomically(absl::StrCat(folder, "/hf/", file), text).ok());
    const auto imported = trainer::ImportModel({.source_path = folder + "/hf",
                                                .output_folder = folder + "/base",
                                                .form = trainer::DType::kF32,
                                                .source_name = "tiny"});
    CHECK(imported.ok()) << imported.status();
    return *LoadedBase::Open(folder + "/base");
  }
  static absl::StatusOr<std::vector<int32_t>> Prompt(const LoadedBase& base,
                                                     const std::string& prompt) {
    v1::GenerateRequest request;
    request.set_prompt(prompt);
    const auto task = MakeTask(request, base, kContext);
    if (!task.ok()) return task.status();
    return task->prompt;
  }
};

TEST_F(RequestChecksTest, AFirstTokenThatThePromptAndTheTokenizerBothHaveIsThereOnce) {
  const std::string plain_json = trainer::TinyTokenizerJson(trainer::MakeTinyModel());
  std::string json = plain_json;
  json.insert(json.find('{') + 1, R"("post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<|im_start|>"}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<|im_start|>": {"ids": [1]}}},)");
  const std::vector<int32_t> plain = *Prompt(*BaseWith("tokenizer.json", plain_json), "cat");
  const auto base = BaseWith("tokenizer.json", json);
  std::vector<int32_t> want = {1};
  want.insert(want.end(), plain.begin(), plain.end());
  EXPECT_EQ(*Prompt(*base, "cat"), want);
  EXPECT_EQ(*Prompt(*base, "<|im_start|>cat"), want);
  // Only what the tokenizer added is taken away.
  want.insert(want.begin(), 1);
  EXPECT_EQ(*Prompt(*base, "<|im_start|><|im_start|>cat"), want);
}

TEST_F(RequestChecksTest, ABaseWithoutAChatTemplateTakesPromptsOnly) {
  const auto base = BaseWith("tokenizer_config.json", R"({"eos_token": "<|im_end|>"})");
  EXPECT_TRUE(Prompt(*base, "cat").ok());
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hello");
  const absl::Status status = MakeTask(request, *base, kContext).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("chat template cannot be used"));
}

}  // namespace
}  // namespace deltaworks::services
