// Which blocks of a grid the attention kernels (kernels/attention.h) run, computed on the host.
//
// A piece is what one block works on, for each head: a tile of the queries, or of the keys, of one
// span. Tiles are counted from the span's first query or key, so a span is cut in the same way
// whatever else is in the batch. Pieces with the most work come first, since blocks start in the
// order of the grid and the last ones to start should be short; the order changes no bits.
//
// Pure functions; no CUDA.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_ATTENTION_PLAN_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_ATTENTION_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

namespace deltaworks::trainer::cuda {

// As trainer/backend/backend.h's AttentionSpan: queries [query_begin, query_end) attend to keys
// [key_begin, key_end).
struct Span {
  int32_t query_begin;
  int32_t query_end;
  int32_t key_begin;
  int32_t key_end;
  // Where the span's pages begin among those of all spans; -1: its keys are adjacent.
  int32_t page_begin = -1;
};

struct Piece {
  int32_t span;
  int32_t tile;
};

constexpr int kQueryTile = 128;
constexpr int kKeyTile = 64;

// Tiles of kQueryTile queries. A span without queries has none.
std::vector<Piece> QueryPieces(std::span<const Span> spans, bool causal);

// Tiles of kKeyTile keys. A span without queries has its keys here: their gradient is 0.
std::vector<Piece> KeyPieces(std::span<const Span> spans, bool causal);

// Tiles of one query, for AttentionDecode.
std::vector<Piece> SingleQueries(std::span<const Span> spans, bool causal);

// Keys of the span that has the most; 0 without spans.
int64_t LongestKeys(std::span<const Span> spans);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_ATTENTION_PLAN_H_
