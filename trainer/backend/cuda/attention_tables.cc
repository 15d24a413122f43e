#include "trainer/backend/cuda/attention_tables.h"

#include <cstring>

namespace deltaworks::trainer::cuda {
namespace {

bool SameSpans(const std::vector<Span>& a, const std::vector<Span>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Span)) == 0);
}

}  // namespace

void AttentionTables::Use(absl::Span<const AttentionSpan> spans, bool causal) {
  std::vector<Span> asked;
  for (const AttentionSpan& span : spans) {
    asked.push_back({static_cast<int32_t>(span.query_begin), static_cast<int32_t>(span.query_end),
                     static_cast<int32_t>(span.key_begin), static_cast<int32_t>(span.key_end)});
  }
  if (spans_ != nullptr && causal == causal_ && SameSpans(asked, uploaded_)) return;
  const std::vector<Piece> queries = QueryPieces(asked, causal), keys = KeyPieces(asked, causal);
  const std::vector<Piece> singles = SingleQueries(asked, causal);
  struct Places {
    void* spans;
    void* queries;
    void* keys;
    void* singles;
  };
  const Places places = memory_.Lay([&](cuda::Pieces& pieces) {
    return Places{
        pieces.Take((asked.size() + 1) * sizeof(Span)), pieces.Take(queries.size() * sizeof(Piece)),
        pieces.Take(keys.size() * sizeof(Piece)), pieces.Take(singles.size() * sizeof(Piece))};
  });
  const auto upload = [&](const auto& values, void* to) {
    if (!values.empty()) {
      gpu_.CopyToDevice(values.data(), to, static_cast<int64_t>(values.size() * sizeof(values[0])));
    }
  };
  upload(asked, places.spans);
  upload(queries, places.queries);
  upload(keys, places.keys);
  upload(singles, places.singles);
  spans_ = static_cast<const Span*>(places.spans);
  queries_ = {static_cast<const Piece*>(places.queries), static_cast<int64_t>(queries.size())};
  keys_ = {static_cast<const Piece*>(places.keys), static_cast<int64_t>(keys.size())};
  single_queries_ = {static_cast<const Piece*>(places.singles),
                     static_cast<int64_t>(singles.size())};
  longest_keys_ = LongestKeys(asked);
  uploaded_ = std::move(asked);
  causal_ = causal;
}

int64_t AttentionTables::Bytes(int64_t rows) {
  cuda::Pieces pieces(nullptr);
  pieces.Take((rows + 1) * sizeof(Span));
  for (int i = 0; i < 3; ++i) pieces.Take(2 * rows * sizeof(Piece));
  return pieces.used();
}

absl::Status AttentionTables::Reserve(int64_t rows) {
  const int64_t bytes = rows == 0 ? 0 : Bytes(rows);
  if (bytes == 0 || bytes > memory_.bytes()) spans_ = nullptr;
  return memory_.Reserve(bytes);
}

}  // namespace deltaworks::trainer::cuda
