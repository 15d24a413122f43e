// The tokenizer in a GGUF file, as the two files that Hugging Face's tokenizers and ours read.
//
// Byte-level BPE only (tokenizer.ggml.model "gpt2"): vocabulary and merges are in the file, how
// text is split before them is not. tokenizer.ggml.pre names it:
//
//   smollm                        each digit alone, then GPT-2's pattern
//   gpt-2, default                GPT-2's pattern
//   llama-bpe, llama3, llama-v3   Llama 3's pattern (numbers of up to three digits); a token takes
//                                 precedence over merges
//   qwen2                         Qwen2's pattern (single digits), text in NFC
//
// tokenizer.json: control tokens are special added tokens, user-defined ones plain added tokens,
// both also in the vocabulary under their id; unused tokens, which no text can give, are left out.
// Where the file says that a text begins with bos or ends with eos, the post-processor adds them.
//
// tokenizer_config.json: chat_template, the texts of bos, eos, pad and unk, add_bos_token and
// add_eos_token. The class is PreTrainedTokenizerFast, so that transformers takes tokenizer.json as
// it is instead of building a Llama tokenizer by the config's model_type.

#ifndef DELTAWORKS_TRAINER_IMPORT_GGUF_TOKENIZER_H_
#define DELTAWORKS_TRAINER_IMPORT_GGUF_TOKENIZER_H_

#include "absl/status/statusor.h"
#include "trainer/formats/gguf.h"
#include "trainer/import/model_source.h"

namespace deltaworks::trainer {

// InvalidArgument names what the file has and what is supported: another kind of tokenizer, an
// unknown pre-tokenizer, lists of different lengths, a merge of tokens that are not in the
// vocabulary, text that is not UTF-8, a token that occurs twice.
absl::StatusOr<TokenizerFiles> GgufTokenizer(const Gguf& gguf);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_GGUF_TOKENIZER_H_
