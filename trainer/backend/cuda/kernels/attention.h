// Attention on the card (backend.h has the contract): forward, backward and decoding, without
// atomics.
//
// Shapes, the same everywhere; device memory, row-major, 16 bytes aligned:
//   q, out, dout, dq  [Tq, query_heads * head_dim]     k, v, dk, dv  [Tk, kv_heads * head_dim]
//   lse, delta        [Tq, query_heads] f32; lse is a natural logarithm
// T is float or Bf16. Only rows of the spans are written. Rows of a span are read for this span
// only, and what lies behind its end is never read.
//
// Two sets of kernels, chosen by T and head_dim alone:
//   Bf16, head_dim a multiple of 8   tensor cores; the probabilities, and in backward the gradients
//                                    of the scores, are rounded to bf16 before they are multiplied
//   all else                         f32 throughout
//
// What a row's bits depend on:
//   AttentionForward   a query: its row of q, the keys and values it sees, counted from the span's
//                      first key. Not the other queries, not its place in a tile or the batch.
//                      A value that is not finite reaches the queries that see its key, no other.
//   AttentionBackward  the span.
//   AttentionDecode    as AttentionForward, but not the same bits.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ATTENTION_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ATTENTION_H_

#include <cstdint>

#include "trainer/backend/cuda/attention_plan.h"
#include "trainer/backend/cuda/kernels/types.h"

namespace deltaworks::trainer::cuda {

struct AttentionArguments {
  int query_heads = 0;
  int kv_heads = 0;  // Divides query_heads.
  int head_dim = 0;  // 1..256.
  float scale = 0;   // Above 0.
  // On the device.
  const Span* spans = nullptr;
  const int32_t* pages = nullptr;  // Of all spans that have any; kKeyTile rows each.
  int64_t causal = 1;              // 0 or 1; so wide that no bytes are left over.
};
template <>
inline constexpr bool kEqualInBytes<AttentionArguments> = sizeof(AttentionArguments) ==
                                                          4 * sizeof(int) + 2 * sizeof(void*) +
                                                              sizeof(int64_t);

// Lists of pieces are made by attention_plan.h and copied to the device; `count` of 0 does nothing.

//   pieces  QueryPieces.
//   out     OVERWRITTEN (=).
//   lse     OVERWRITTEN (=); nullptr: not kept.
template <typename T>
void AttentionForward(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                      int64_t count, const T* q, const T* k, const T* v, T* out, float* lse);

// dq, dk, dv OVERWRITTEN (=). The spans' queries are disjoint, and so are their keys.
//   query_pieces, key_pieces  QueryPieces, KeyPieces.
//   out, lse                  As forward left them.
//   delta                     Scratch.
template <typename T>
void AttentionBackward(Stream stream, const AttentionArguments& arguments,
                       const Piece* query_pieces, int64_t query_count, const Piece* key_pieces,
                       int64_t key_count, const T* q, const T* k, const T* v, const T* out,
                       const float* lse, const T* dout, float* delta, T* dq, T* dk, T* dv);

// AttentionForward for spans of few queries, usually one, over long keys: bound by memory
// bandwidth. Chunks of kDecodeChunk keys, counted from the span's first key, are read by blocks of
// their own and combined in their order.
//   queries       SingleQueries.
//   longest_keys  At least LongestKeys of the spans.
//   scratch       DecodeScratchBytes.
constexpr int kDecodeChunk = 256;
int64_t DecodeScratchBytes(int64_t queries, int64_t longest_keys, int64_t query_heads,
                           int64_t head_dim);
template <typename T>
void AttentionDecode(Stream stream, const AttentionArguments& arguments, const Piece* queries,
                     int64_t count, int64_t longest_keys, const T* q, const T* k, const T* v,
                     T* out, float* lse, float* scratch);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ATTENTION_H_
