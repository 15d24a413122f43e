#include "services/cli/generation_flags.h"

#include "absl/strings/str_cat.h"
#include "services/cli/text_flags.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

void GenerationFlags::Declare(Arguments& arguments) {
  arguments.Section("Generation");
  arguments.Flag("max_new_tokens", &max_new_tokens_,
                 absl::StrCat("most tokens of an answer (default ", max_new_tokens_, ")"));
  arguments.Flag("temperature", &temperature_,
                 "in [0, 10]; 0: the most likely token each time (default 0)");
  arguments.Flag("top_p", &top_p_, "share of probability to sample from; 0 means 1 (default 0)");
  arguments.Flag("top_k", &top_k_, "tokens to sample from; 0: all (default 0)");
  arguments.Flag("seed", &seed_, "of sampling (default 0)");
  arguments.Flag("stop", &stop_, "end before this text; repeat it for further ones")
      .ValueName("TEXT")
      .WholeValues();
}

absl::Status GenerationFlags::Apply(v1::GenerateRequest& request) const {
  DW_RETURN_IF_ERROR(CheckInt32("--max_new_tokens", max_new_tokens_));
  DW_RETURN_IF_ERROR(CheckInt32("--top_k", top_k_));
  request.set_max_new_tokens(static_cast<int32_t>(max_new_tokens_));
  request.set_temperature(temperature_);
  request.set_top_p(top_p_);
  request.set_top_k(static_cast<int32_t>(top_k_));
  request.set_seed(seed_);
  request.mutable_stop()->Assign(stop_.begin(), stop_.end());
  return absl::OkStatus();
}

}  // namespace deltaworks::services
