#include "trainer/backend/cuda/attention_plan.h"

#include <algorithm>

namespace deltaworks::trainer::cuda {
namespace {

struct Work {
  Piece piece;
  int64_t amount;  // Products of a query and a key, or so.
};

std::vector<Piece> LongestFirst(std::vector<Work> work) {
  std::stable_sort(work.begin(), work.end(),
                   [](const Work& a, const Work& b) { return a.amount > b.amount; });
  std::vector<Piece> pieces;
  pieces.reserve(work.size());
  for (const Work& item : work) pieces.push_back(item.piece);
  return pieces;
}

std::vector<Piece> PiecesOfQueries(std::span<const Span> spans, bool causal, int64_t tile) {
  std::vector<Work> work;
  for (size_t s = 0; s < spans.size(); ++s) {
    const int64_t queries = spans[s].query_end - spans[s].query_begin;
    const int64_t keys = spans[s].key_end - spans[s].key_begin;
    for (int64_t begin = 0; begin < queries; begin += tile) {
      const int64_t end = std::min(begin + tile, queries);
      const int64_t seen = causal ? keys - (queries - end) : keys;
      work.push_back({{static_cast<int32_t>(s), static_cast<int32_t>(begin / tile)}, seen});
    }
  }
  return LongestFirst(std::move(work));
}

}  // namespace

std::vector<Piece> QueryPieces(std::span<const Span> spans, bool causal) {
  return PiecesOfQueries(spans, causal, kQueryTile);
}

std::vector<Piece> SingleQueries(std::span<const Span> spans, bool causal) {
  return PiecesOfQueries(spans, causal, 1);
}

std::vector<Piece> KeyPieces(std::span<const Span> spans, bool causal) {
  std::vector<Work> work;
  for (size_t s = 0; s < spans.size(); ++s) {
    const int64_t queries = spans[s].query_end - spans[s].query_begin;
    const int64_t keys = spans[s].key_end - spans[s].key_begin;
    for (int64_t begin = 0; begin < keys; begin += kKeyTile) {
      // Query i stands at key i + keys - queries.
      const int64_t unseeing =
          causal ? std::clamp<int64_t>(begin - (keys - queries), 0, queries) : 0;
      work.push_back(
          {{static_cast<int32_t>(s), static_cast<int32_t>(begin / kKeyTile)}, queries - unseeing});
    }
  }
  return LongestFirst(std::move(work));
}

int64_t LongestKeys(std::span<const Span> spans) {
  int64_t longest = 0;
  for (const Span& span : spans) {
    longest = std::max<int64_t>(longest, span.key_end - span.key_begin);
  }
  return longest;
}

}  // namespace deltaworks::trainer::cuda
