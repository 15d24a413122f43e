// The tensor types of GGUF that we read, and how their bytes become f32.
//
// A row (the last dimension) is cut in blocks; numbers are little-endian, d and m are F16, and
// every formula below is computed in f32 in the order written, without fused multiply-add, so that
// the result equals that of ggml's and gguf-py's dequantisers bit for bit. The layouts are those of
// ggml's quantisation definitions (ggml-common.h: block_q4_0, block_q4_1, block_q8_0).
//
//   type   id  elements  bytes   layout                      element i of a block
//   F32     0         1      4   f32                         itself
//   F16     1         1      2   f16                         itself
//   Q4_0    2        32     18   d, then 16 bytes of q       d * (nibble(i) - 8)
//   Q4_1    3        32     20   d, m, then 16 bytes of q    d * nibble(i) + m
//   Q8_0    8        32     34   d, then 32 signed bytes     d * q[i]
//   BF16   30         1      2   bf16                        itself
//
//   nibble(i) = q[i] & 15 for i < 16, q[i - 16] >> 4 for i >= 16.

#ifndef DELTAWORKS_TRAINER_FORMATS_GGUF_QUANT_H_
#define DELTAWORKS_TRAINER_FORMATS_GGUF_QUANT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

struct GgufTensorType {
  uint32_t id = 0;
  absl::string_view name;
  int64_t block_elements = 1;
  int64_t block_bytes = 4;
};

// nullptr if we do not read tensors of this type.
const GgufTensorType* FindGgufTensorType(uint32_t id);

// "Q4_K" also for types that we do not read; "type 77" for ids that ggml does not know either.
std::string GgufTensorTypeName(uint32_t id);

// "F32, F16, Q4_0, ...": for messages.
std::string SupportedGgufTensorTypes();

// Converts `elements` (a multiple of the type's block) from `source` into `out`. `source` need not
// be aligned.
void DequantizeGguf(const GgufTensorType& type, const char* source, int64_t elements, float* out);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_FORMATS_GGUF_QUANT_H_
