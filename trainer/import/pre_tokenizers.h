// What llama.cpp's names of pre-tokenizers (tokenizer.ggml.pre) mean in Hugging Face's terms.
// Internal to gguf_tokenizer.cc; it includes JSON, so include it in sources only.

#ifndef DELTAWORKS_TRAINER_IMPORT_PRE_TOKENIZERS_H_
#define DELTAWORKS_TRAINER_IMPORT_PRE_TOKENIZERS_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {

struct PreTokenizer {
  Json normalizer = nullptr;  // null for none.
  Json pre_tokenizer = nullptr;
  bool ignore_merges = false;  // A piece that is a token is that token, whatever the merges.
  bool bos_by_default = false;
};

std::optional<PreTokenizer> FindPreTokenizer(absl::string_view gguf_name);

// "smollm, gpt-2, ...": for messages.
std::string PreTokenizerNames();

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_PRE_TOKENIZERS_H_
