// Example: one tokenised training example. Token i is predicted from the tokens before it, so the
// last token needs no row of a pass and the first can be no label.

#ifndef DELTAWORKS_TRAINER_DATA_EXAMPLE_H_
#define DELTAWORKS_TRAINER_DATA_EXAMPLE_H_

#include <cstdint>
#include <vector>

namespace deltaworks::trainer {

struct Example {
  std::vector<int32_t> ids;
  std::vector<bool>
      is_label;  // As long as ids: the loss counts this token. The first never counts.

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
  // Rows of a pass: all tokens but the last.
  int64_t rows() const { return tokens() - 1; }

  int64_t label_count() const {
    int64_t count = 0;
    for (size_t i = 1; i < is_label.size(); ++i) count += is_label[i];
    return count;
  }

  // What each row should predict; -1: nothing.
  std::vector<int32_t> RowLabels() const {
    std::vector<int32_t> labels(rows());
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = is_label[i + 1] ? ids[i + 1] : -1;
    return labels;
  }
};

struct TrainingData {
  std::vector<Example> train;
  std::vector<Example> validation;  // May be empty.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_DATA_EXAMPLE_H_
