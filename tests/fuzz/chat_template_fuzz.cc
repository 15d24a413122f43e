// A chat template, by itself and inside a tokenizer_config.json, and chats rendered with it. The
// limits are small, so that the bound on memory proves that the template's budget is honest.

#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/tokenizer/chat_template.h"

namespace deltaworks::trainer {
namespace {

constexpr jinja::Limits kLimits = {
    .steps_max = 5'000, .bytes_max = 8 << 20, .output_bytes_max = 4 << 20};

void Render(const ChatTemplate& chat_template) {
  static const auto* const chat =
      new std::vector<ChatMessage>{{"system", "Be \"brief\"."},
                                   {"user", "  Hi <b>there</b>\n\xc3\x9f\xe2\x82\xac"},
                                   {"assistant", "<think>a.b,c</think> Hello!"},
                                   {"user", ""}};
  for (const bool prompt : {false, true}) {
    const auto text = chat_template.Render(*chat, prompt);
    if (text.ok()) CHECK_LE(static_cast<int64_t>(text->size()), kLimits.output_bytes_max);
  }
}

}  // namespace
}  // namespace deltaworks::trainer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const ChatTokens tokens = {.bos = "<s>", .eos = "</s>"};
  deltaworks::fuzz::BoundedMemory memory(size);
  if (const auto parsed = ChatTemplate::Parse(text, tokens, kLimits); parsed.ok()) Render(**parsed);
  (void)ChatTemplate::FromConfig(text);
  return 0;
}
