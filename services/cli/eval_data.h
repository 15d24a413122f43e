// EvalExamples: the lines of a JSONL file as the inference service is asked about them. Pure.

#ifndef DELTAWORKS_SERVICES_CLI_EVAL_DATA_H_
#define DELTAWORKS_SERVICES_CLI_EVAL_DATA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/inference_service.pb.h"

namespace deltaworks::services {

struct EvalExample {
  int64_t line = 0;
  v1::ScoreExample score;
  // What the model is asked, without the answer, and the answer of the data; only where
  // `has_answer`. Plain text has none.
  bool has_answer = false;
  v1::GenerateRequest question;
  std::string question_text;  // For people: the prompt, or the last message before the answer.
  std::string reference;
};

// The first `limit` examples of `jsonl`; of a chat the last assistant message is the answer.
// InvalidArgument: a bad line, with its number, or no example at all; `subject` begins the message.
absl::StatusOr<std::vector<EvalExample>> ReadEvalExamples(absl::string_view jsonl,
                                                          const std::string& subject,
                                                          int64_t limit);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_EVAL_DATA_H_
