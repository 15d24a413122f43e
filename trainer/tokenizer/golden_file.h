// Reads the files that tests/golden/tokenizer/make_golden.py writes (their format is described
// there) and compares a tokenizer with them. Each difference is one sentence that names the line.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_GOLDEN_FILE_H_
#define DELTAWORKS_TRAINER_TOKENIZER_GOLDEN_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {

struct GoldenReport {
  int compared = 0;
  std::vector<std::string> differences;
};

// Encodes and decodes every line of a .golden file.
absl::StatusOr<GoldenReport> CompareGolden(const Tokenizer& tokenizer, const std::string& path);

// Encodes every code point of Unicode, in the surroundings of a .sweep file.
absl::StatusOr<GoldenReport> CompareSweep(const Tokenizer& tokenizer, const std::string& path);

// The texts of a .golden file.
absl::StatusOr<std::vector<std::string>> GoldenTexts(const std::string& path);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_GOLDEN_FILE_H_
