// A GGUF file as a ModelSource: names and shapes become Hugging Face's, blocks become f32, and the
// rows of q and k get their order back.
//
// llama.cpp turns pairs (2i, 2i+1) of a head by RoPE, Hugging Face pairs (i, i + D/2), with D the
// size of a head. llama.cpp's converter therefore stores the rows of q_proj and k_proj in another
// order; within each head
//
//   Hugging Face's row j * D/2 + i  lies in GGUF's row 2 i + j,   j = 0, 1,   i = 0 .. D/2 - 1.

#ifndef DELTAWORKS_TRAINER_IMPORT_GGUF_SOURCE_H_
#define DELTAWORKS_TRAINER_IMPORT_GGUF_SOURCE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "trainer/import/model_source.h"

namespace deltaworks::trainer {

// The row of GGUF's q or k that holds Hugging Face's row `row`; heads have `head_dim` rows each.
inline int64_t GgufRotaryRow(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim;
  const int64_t half = head_dim / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

// InvalidArgument names what the file has and what is wanted; the errors of GgufFile::Open.
absl::StatusOr<std::unique_ptr<ModelSource>> OpenGgufSource(const std::string& path);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_GGUF_SOURCE_H_
