// A tokenizer.json, then texts through the tokenizer that it describes; the same bytes as the
// tokenizer_config.json of a good tokenizer.

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "tests/fuzz/bounded_memory.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/import/tiny_model.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {
namespace {

// A bit of everything that patterns tell apart.
constexpr absl::string_view kText =
    "Hello  world's 123 4567\n\n\t\xc3\xa9\xe2\x82\xac \xf0\x9f\x98\x80 e\xcc\x81 \xff <|im_start|>"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab                 ";
constexpr size_t kOwnTextBytes = 512;

void Use(const Tokenizer& tokenizer, absl::string_view text) {
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.Encode(text, {.parse_special = special, .add_special = special});
    if (!ids.ok()) continue;
    for (const int32_t id : *ids) CHECK(0 <= id && id < tokenizer.vocab_size()) << id;
    tokenizer.Decode(*ids, special);
  }
  tokenizer.HasSpecial(text);
}

}  // namespace
}  // namespace deltaworks::trainer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaworks::trainer;
  static const auto* const good = new std::string(TinyTokenizerJson(MakeTinyModel()));
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  deltaworks::fuzz::BoundedMemory memory(size);
  if (const auto tokenizer = Tokenizer::Parse(text, ""); tokenizer.ok()) {
    Use(**tokenizer, kText);
    Use(**tokenizer, text.substr(0, kOwnTextBytes));
  }
  if (size > 0) (void)Tokenizer::Parse(*good, text);
  return 0;
}
