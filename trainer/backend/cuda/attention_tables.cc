#include "trainer/backend/cuda/attention_tables.h"

#include <cstring>

namespace deltaworks::trainer::cuda {
namespace {

template <typename T>
bool Same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

static_assert(kKeyPage == kKeyTile, "a tile of keys is read from one page");
int64_t PagesOf(int64_t keys) { return (keys + kKeyPage - 1) / kKeyPage; }

}  // namespace

void AttentionTables::Use(absl::Span<const AttentionSpan> spans, bool causal) {
  std::vector<Span> asked;
  std::vector<int32_t> pages;
  for (const AttentionSpan& span : spans) {
    asked.push_back({static_cast<int32_t>(span.query_begin), static_cast<int32_t>(span.query_end),
                     static_cast<int32_t>(span.key_begin), static_cast<int32_t>(span.key_end)});
    if (span.pages == nullptr) continue;
    asked.back().page_begin = static_cast<int32_t>(pages.size());
    pages.insert(pages.end(), span.pages, span.pages + PagesOf(span.keys()));
  }
  if (spans_ != nullptr && causal == causal_ && Same(asked, uploaded_) &&
      Same(pages, uploaded_pages_)) {
    return;
  }
  const std::vector<Piece> queries = QueryPieces(asked, causal), keys = KeyPieces(asked, causal);
  const std::vector<Piece> singles = SingleQueries(asked, causal);
  struct Places {
    void* spans;
    void* queries;
    void* keys;
    void* singles;
    void* pages;
  };
  const Places places = memory_.Lay([&](cuda::Pieces& pieces) {
    return Places{
        pieces.Take((asked.size() + 1) * sizeof(Span)), pieces.Take(queries.size() * sizeof(Piece)),
        pieces.Take(keys.size() * sizeof(Piece)), pieces.Take(singles.size() * sizeof(Piece)),
        pieces.Take(pages.size() * sizeof(int32_t))};
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
  upload(pages, places.pages);
  spans_ = static_cast<const Span*>(places.spans);
  queries_ = {static_cast<const Piece*>(places.queries), static_cast<int64_t>(queries.size())};
  keys_ = {static_cast<const Piece*>(places.keys), static_cast<int64_t>(keys.size())};
  single_queries_ = {static_cast<const Piece*>(places.singles),
                     static_cast<int64_t>(singles.size())};
  pages_ = static_cast<const int32_t*>(places.pages);
  longest_keys_ = LongestKeys(asked);
  uploaded_ = std::move(asked);
  uploaded_pages_ = std::move(pages);
  causal_ = causal;
}

int64_t AttentionTables::Bytes(int64_t rows, int64_t paged_keys) {
  cuda::Pieces pieces(nullptr);
  pieces.Take((rows + 1) * sizeof(Span));
  for (int i = 0; i < 3; ++i) pieces.Take(2 * rows * sizeof(Piece));
  pieces.Take(rows * PagesOf(paged_keys) * sizeof(int32_t));
  return pieces.used();
}

absl::Status AttentionTables::Reserve(int64_t rows, int64_t paged_keys) {
  const int64_t bytes = rows == 0 ? 0 : Bytes(rows, paged_keys);
  if (bytes == 0 || bytes > memory_.bytes()) spans_ = nullptr;
  return memory_.Reserve(bytes);
}

}  // namespace deltaworks::trainer::cuda
