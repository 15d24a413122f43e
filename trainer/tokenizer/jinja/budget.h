// Budget: how much one rendering may do. Templates come with models from anywhere; a few lines can
// loop for hours or double a string forty times. Every step and every byte made is charged, and
// reading counts as steps too, so that the limits bound time and memory.
// Thread-compatible.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_BUDGET_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_BUDGET_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace deltaworks::trainer::jinja {

struct Limits {
  int64_t steps_max = 2'000'000;        // Statements and expressions evaluated; 256 bytes read.
  int64_t bytes_max = 512 << 20;        // Of strings and lists made on the way, all together.
  int64_t output_bytes_max = 64 << 20;  // Of the rendered text.
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  absl::Status Step() { return Steps(1); }

  // Before `bytes` of text or of a mapping are gone through, which makes nothing new.
  absl::Status Read(int64_t bytes) { return Steps(bytes / kBytesPerStep); }

  absl::Status Bytes(int64_t bytes) {
    bytes_ += bytes;
    if (bytes_ <= limits_.bytes_max) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat("the template makes more than ", limits_.bytes_max, " bytes of text"));
  }

  const Limits& limits() const { return limits_; }

 private:
  static constexpr int64_t kBytesPerStep = 256;  // In about the time of a step.

  absl::Status Steps(int64_t steps) {
    steps_ += steps;
    if (steps_ <= limits_.steps_max) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat("the template takes more than ", limits_.steps_max, " steps"));
  }

  const Limits limits_;
  int64_t steps_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_BUDGET_H_
