#include "services/cli/text_flags.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "services/cli/enum_text.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

absl::Status CheckInt32(const std::string& flag, int64_t value) {
  if (value >= std::numeric_limits<int32_t>::min() &&
      value <= std::numeric_limits<int32_t>::max()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " is ", value, ", want at most ", std::numeric_limits<int32_t>::max()));
}

void TextFlags::Declare(Arguments& arguments) {
  arguments.Flag("max_length", &max_length_,
                 "tokens of one example, 2..131072 (default 1024, or the base's context)");
  arguments.Flag("truncation", &truncation_, "what happens to longer examples (default error)")
      .ValueName("HOW")
      .Choices(EnumChoices<v1::TextSettings::Truncation>());
  arguments.Flag("train_on", &train_on_, "which tokens carry a label (default assistant_all)")
      .ValueName("WHAT")
      .Choices(EnumChoices<v1::TextSettings::TrainOn>());
}

absl::Status TextFlags::Apply(v1::TextSettings& text) const {
  if (max_length_) {
    DW_RETURN_IF_ERROR(CheckInt32("--max_length", *max_length_));
    text.set_max_length(static_cast<int32_t>(*max_length_));
  }
  if (truncation_) text.set_truncation(EnumOf<v1::TextSettings::Truncation>(*truncation_));
  if (train_on_) text.set_train_on(EnumOf<v1::TextSettings::TrainOn>(*train_on_));
  return absl::OkStatus();
}

}  // namespace deltaworks::services
