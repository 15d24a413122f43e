// The source digest: the name of a base model, whatever the form in which its weights are stored.
//
// It is the SHA-256 of this text ("\n" ends a line; there is no other white space than shown):
//
//   deltaworks source 1\n
//   tensor NAME DTYPE SHAPE DIGEST\n            one line per tensor, in byte order of NAME
//   file config.json SIZE\n                     then the SIZE bytes of the file
//   file tokenizer.json SIZE\n                  then the SIZE bytes of the file
//   file tokenizer_config.json SIZE\n           then the SIZE bytes of the file
//
//   NAME    Hugging Face's name: model.layers.0.self_attn.q_proj.weight
//   DTYPE   the type in the source file: F32, F16, BF16, Q4_0, Q4_1, Q8_0
//   SHAPE   Hugging Face's, sizes joined by "x": 576x576
//   DIGEST  "sha256:" and 64 hex digits, of the tensor's bytes as they lie in the source file:
//           still quantised, q and k of a GGUF still in llama.cpp's order
//   SIZE    in bytes, decimal
//
// The files are the stored ones, so a sharded folder and a single file with the same tensors have
// one digest, while a GGUF and the folder it was made from are two sources. Pure, thread-safe.

#ifndef DELTAWORKS_TRAINER_IMPORT_SOURCE_DIGEST_H_
#define DELTAWORKS_TRAINER_IMPORT_SOURCE_DIGEST_H_

#include <string>

#include "absl/strings/string_view.h"
#include "trainer/import/model_source.h"

namespace deltaworks::trainer {

// `config_json` as it is stored. Reads every byte of the tensors.
std::string SourceDigest(const SourceTensorMap& tensors, absl::string_view config_json,
                         const TokenizerFiles& tokenizer);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_SOURCE_DIGEST_H_
