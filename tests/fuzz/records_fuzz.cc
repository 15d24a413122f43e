// A JSONL dataset, all the way to tokens and labels, for each choice of what is trained on.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/data/dataset_report.h"
#include "trainer/data/text_encoder.h"
#include "trainer/import/tiny_model.h"
#include "trainer/tokenizer/chat_template.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {
namespace {

struct Base {
  std::unique_ptr<const Tokenizer> tokenizer;
  ChatRenderer render_chat;
};

Base MakeBase() {
  const TinyModel model = MakeTinyModel();
  auto tokenizer = Tokenizer::Parse(TinyTokenizerJson(model), R"({"eos_token": "<|im_end|>"})");
  CHECK(tokenizer.ok()) << tokenizer.status();
  return {*std::move(tokenizer), MakeChatRenderer(ChatTemplate::Parse(model.chat_template, {}))};
}

void CheckExamples(const std::vector<Example>& examples, const DatasetReport& report,
                   const Base& base, int64_t max_length) {
  CHECK_EQ(static_cast<int64_t>(examples.size()), report.train_examples);
  int64_t tokens = 0, labels = 0;
  for (const Example& example : examples) {
    CHECK_EQ(example.ids.size(), example.is_label.size());
    CHECK_LE(example.tokens(), max_length);
    CHECK_GT(example.label_count(), 0);
    for (const int32_t id : example.ids) CHECK(0 <= id && id < base.tokenizer->vocab_size());
    tokens += example.tokens();
    labels += example.label_count();
  }
  CHECK_EQ(tokens, report.train_tokens);
  CHECK_EQ(labels, report.label_tokens);
}

}  // namespace
}  // namespace deltaworks::trainer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  static const auto* const base = new Base(MakeBase());
  const absl::string_view jsonl(reinterpret_cast<const char*>(data), size);
  constexpr TextSettings kSettings[] = {
      {.max_length = 40, .truncation = Truncation::kTruncate, .train_on = TrainOn::kAssistantAll},
      {.max_length = 64, .truncation = Truncation::kSkip, .train_on = TrainOn::kAssistantLast},
      {.max_length = 4096, .truncation = Truncation::kError, .train_on = TrainOn::kAllTokens},
  };
  deltaworks::fuzz::BoundedMemory memory(size);
  for (const TextSettings& settings : kSettings) {
    const TextEncoder encoder(*base->tokenizer, base->render_chat, settings);
    std::vector<Example> examples;
    const DatasetReport report = CheckDataset(jsonl, encoder, &examples);
    CheckExamples(examples, report, *base, settings.max_length);
  }
  return 0;
}
