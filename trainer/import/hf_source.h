// A folder of Hugging Face transformers as a ModelSource:
//
//   config.json                     as ModelConfig::Parse reads it
//   model.safetensors, or
//   model.safetensors.index.json    {"weight_map": {tensor: file of this folder}}
//   tokenizer.json                  kept byte for byte
//   tokenizer_config.json           kept, with special tokens as plain strings and, where it has
//   chat_template.jinja             no chat_template, the one of this file; keys sorted
//
// Tensors are F32, F16 or BF16. Two things that transformers ignores are ignored here too: an
// lm_head.weight beside tied embeddings, if it equals them, and rotary_emb.inv_freq buffers.

#ifndef DELTAWORKS_TRAINER_IMPORT_HF_SOURCE_H_
#define DELTAWORKS_TRAINER_IMPORT_HF_SOURCE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "trainer/import/model_source.h"

namespace deltaworks::trainer {

// NotFound names the file that is missing; InvalidArgument what a file has and what is wanted.
absl::StatusOr<std::unique_ptr<ModelSource>> OpenHfSource(const std::string& folder);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_HF_SOURCE_H_
