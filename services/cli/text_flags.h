// TextFlags: the flags that say how text becomes tokens and labels, the same for dataset check,
// dataset preview and job submit. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_TEXT_FLAGS_H_
#define DELTAWORKS_SERVICES_CLI_TEXT_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "proto/deltaworks/v1/common.pb.h"
#include "services/cli/arguments.h"

namespace deltaworks::services {

class TextFlags {
 public:
  void Declare(Arguments& arguments);
  // Sets what was given; the rest stays. InvalidArgument: a number out of the field's range.
  absl::Status Apply(v1::TextSettings& text) const;

 private:
  std::optional<int64_t> max_length_;
  std::optional<std::string> truncation_, train_on_;
};

// `value` as the int32 of a field. InvalidArgument: "--rank is 5000000000, want ...".
absl::Status CheckInt32(const std::string& flag, int64_t value);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_TEXT_FLAGS_H_
