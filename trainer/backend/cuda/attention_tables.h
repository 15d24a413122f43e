// Spans and their pieces on the card. All layers of a pass attend over the same spans, so what was
// uploaded for the last ones is kept. Thread-compatible. `gpu` must outlive it.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_ATTENTION_TABLES_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_ATTENTION_TABLES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/cuda/attention_plan.h"
#include "trainer/backend/cuda/gpu.h"
#include "trainer/backend/cuda/scratch.h"

namespace deltaworks::trainer::cuda {

class AttentionTables {
 public:
  struct Pieces {
    const Piece* data = nullptr;  // On the device.
    int64_t count = 0;
  };

  explicit AttentionTables(Gpu& gpu) : gpu_(gpu), memory_(gpu) {}

  // Uploads them, unless the last call had the same.
  void Use(absl::Span<const AttentionSpan> spans, bool causal);

  const Span* spans() const { return spans_; }
  const int32_t* pages() const { return pages_; }
  const Pieces& queries() const { return queries_; }
  const Pieces& keys() const { return keys_; }
  const Pieces& single_queries() const { return single_queries_; }
  int64_t longest_keys() const { return longest_keys_; }

  // Room for so many rows, each a span with so many keys in pages in the worst case (0: no pages);
  // 0 rows give all back.
  absl::Status Reserve(int64_t rows, int64_t paged_keys);
  static int64_t Bytes(int64_t rows, int64_t paged_keys);
  int64_t bytes() const { return memory_.bytes(); }

 private:
  Gpu& gpu_;
  Scratch memory_;
  std::vector<Span> uploaded_;
  std::vector<int32_t> uploaded_pages_;
  bool causal_ = false;
  const Span* spans_ = nullptr;
  const int32_t* pages_ = nullptr;
  Pieces queries_, keys_, single_queries_;
  int64_t longest_keys_ = 0;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_ATTENTION_TABLES_H_
