// PackedBatch: one row of tokens, many documents and many jobs. Documents lie one after the other
// without padding; attention never crosses from one to the next. The rows of one job are adjacent
// and form its segment.

#ifndef DELTAWORKS_TRAINER_MODEL_PACKED_BATCH_H_
#define DELTAWORKS_TRAINER_MODEL_PACKED_BATCH_H_

#include <cstdint>
#include <vector>

#include "trainer/backend/backend.h"
#include "trainer/lora/adapter.h"

namespace deltaworks::trainer {

// Rows of one job. `dropout.site` is filled in by the model, input by input.
struct BatchSegment {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  const Adapter* adapter = nullptr;  // nullptr: the base alone.
  DropoutKey dropout;                // p = 0 for evaluation and inference.
};

struct PackedBatch {
  std::vector<int32_t> ids;        // [T], in [0, vocabulary).
  std::vector<int32_t> positions;  // [T], from 0 in each document.
  std::vector<AttentionSpan> spans;
  std::vector<BatchSegment> segments;  // Ascending.

  // Rows that predict something, ascending, what they should predict, and the weight of each loss.
  std::vector<int32_t> label_rows;
  std::vector<int32_t> labels;
  std::vector<double> label_weights;

  int64_t rows() const { return static_cast<int64_t>(ids.size()); }

  // Appends a document whose keys are its own rows. Call it between BeginSegment and EndSegment.
  // labels[i] < 0: row i predicts nothing.
  void AppendDocument(absl::Span<const int32_t> document, absl::Span<const int32_t> document_labels,
                      double label_weight);
  void BeginSegment(const Adapter* adapter, const DropoutKey& dropout);
  void EndSegment();
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_PACKED_BATCH_H_
