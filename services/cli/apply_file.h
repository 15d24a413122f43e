// The file of `dw apply`: many jobs that have much in common.
//
//   base_model: smollm2
//   defaults: {lora: {rank: 8}, arguments: {learning_rate: 1e-3, max_steps: 100}}
//   jobs:
//     - name: notes          # becomes the job's id
//       dataset: notes
//       lora: {rank: 16}     # over the default, field by field
//     - {name: poems, dataset: poems, priority_class: high}
//
// YAML, and so JSON (yaml_document.h); which fields there are: job_fields.h. Plain functions,
// thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_APPLY_FILE_H_
#define DELTAWORKS_SERVICES_CLI_APPLY_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "services/cli/command.h"

namespace deltaworks::services {

inline constexpr int64_t kApplyFileBytesMax = 16 << 20;
inline constexpr int64_t kApplyJobsMax = 10'000;

// The label that holds the digest of the job as its file said it, so that a field which is no
// longer there can be noticed.
inline constexpr char kApplyLabel[] = "deltaworks-apply";

struct FileJob {
  std::string id;
  // As it is asked for: names in full, kApplyLabel among its labels.
  v1::Job job;
};

// The jobs of `text`, in its order, each within the ranges of job.proto. InvalidArgument begins
// with "SUBJECT:LINE: " and names path, got and want; then nothing of the file may be used.
absl::StatusOr<std::vector<FileJob>> ParseApplyFile(const CommandContext& context,
                                                    absl::string_view text,
                                                    const std::string& subject);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_APPLY_FILE_H_
