// DatasetReport: everything that is wrong with a dataset, and how long its examples are; and the
// examples themselves, as a trainer reads them.

#ifndef DELTAWORKS_TRAINER_DATA_DATASET_REPORT_H_
#define DELTAWORKS_TRAINER_DATA_DATASET_REPORT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/data/example.h"
#include "trainer/data/record.h"
#include "trainer/data/text_encoder.h"

namespace deltaworks::trainer {

inline constexpr size_t kProblemsMax = 1000;

struct DatasetReport {
  RecordForm form = RecordForm::kText;
  int64_t example_count = 0;            // Good ones.
  std::vector<RecordProblem> problems;  // By line, at most kProblemsMax.
  int64_t problem_count = 0;

  // Over good examples, before max_length is applied.
  int64_t tokens = 0;
  int64_t tokens_min = 0;
  int64_t tokens_median = 0;
  int64_t tokens_p95 = 0;
  int64_t tokens_max = 0;
  std::map<int64_t, int64_t> longer_than;  // By 256, 512, ... up to the first that none exceeds.
  int64_t too_long_count = 0;              // Longer than max_length; truncated or skipped.

  // After it.
  int64_t train_examples = 0;
  int64_t train_tokens = 0;
  int64_t label_tokens = 0;
};

// Reads all of `jsonl`; every bad line is a problem of the report. If `examples` is not null, the
// examples to train on are appended to it.
DatasetReport CheckDataset(absl::string_view jsonl, const TextEncoder& encoder,
                           std::vector<Example>* examples);

// The examples, or InvalidArgument with the first problem ("line 3: ...") and how many there are.
absl::StatusOr<std::vector<Example>> ReadExamples(absl::string_view jsonl,
                                                  const TextEncoder& encoder);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_DATA_DATASET_REPORT_H_
