// GenerationFlags: how text is generated, as flags of `generate` and `eval`. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_GENERATION_FLAGS_H_
#define DELTAWORKS_SERVICES_CLI_GENERATION_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "services/cli/arguments.h"

namespace deltaworks::services {

class GenerationFlags {
 public:
  explicit GenerationFlags(int64_t max_new_tokens) : max_new_tokens_(max_new_tokens) {}

  void Declare(Arguments& arguments);
  absl::Status Apply(v1::GenerateRequest& request) const;

 private:
  int64_t max_new_tokens_;
  double temperature_ = 0, top_p_ = 0;
  int64_t top_k_ = 0, seed_ = 0;
  std::vector<std::string> stop_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_GENERATION_FLAGS_H_
