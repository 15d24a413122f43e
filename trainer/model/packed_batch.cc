#include "trainer/model/packed_batch.h"

#include "glog/logging.h"

namespace deltaworks::trainer {

void PackedBatch::AppendDocument(absl::Span<const int32_t> document,
                                 absl::Span<const int32_t> document_labels, double label_weight) {
  CHECK_EQ(document.size(), document_labels.size());
  const int64_t begin = rows();
  for (size_t i = 0; i < document.size(); ++i) {
    ids.push_back(document[i]);
    positions.push_back(static_cast<int32_t>(i));
    if (document_labels[i] < 0) continue;
    label_rows.push_back(static_cast<int32_t>(begin + static_cast<int64_t>(i)));
    labels.push_back(document_labels[i]);
    label_weights.push_back(label_weight);
  }
  spans.push_back({begin, rows(), begin, rows()});
}

void PackedBatch::BeginSegment(const Adapter* adapter, const DropoutKey& dropout) {
  segments.push_back({rows(), rows(), adapter, dropout});
}

void PackedBatch::EndSegment() { segments.back().row_end = rows(); }

}  // namespace deltaworks::trainer
