#include "tests/bench/decode/decode_case.h"

#include <chrono>
#include <utility>

#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DecodeCase>> DecodeCase::Create(Backend& backend,
                                                               const ModelConfig& config,
                                                               const TensorMap& base,
                                                               const PeftAdapter& adapter,
                                                               int64_t positions_max) {
  std::unique_ptr<DecodeCase> result(new DecodeCase());
  const LlamaOptions options = {.positions_max = positions_max};
  DW_ASSIGN_OR_RETURN(result->base_model_, Llama::Create(backend, config, base, options));
  Clock::time_point begin = Clock::now();
  DW_ASSIGN_OR_RETURN(result->adapter_,
                      Adapter::Create(backend, adapter.targets, /*trainable=*/false));
  result->adapter_->WriteParameters(adapter.values);
  result->unmerged_switch_seconds_ = SecondsSince(begin);
  begin = Clock::now();
  DW_ASSIGN_OR_RETURN(result->merged_,
                      MergedWeights::Create(base, adapter.targets, adapter.values));
  DW_ASSIGN_OR_RETURN(result->merged_model_,
                      Llama::Create(backend, config, result->merged_->tensors(), options));
  result->merged_switch_seconds_ = SecondsSince(begin);
  return result;
}

absl::StatusOr<DecodeRun> DecodeCase::Run(DecodeMode mode, const std::vector<int32_t>& prompt,
                                          int64_t tokens) {
  const Llama& model = mode == DecodeMode::kMerged ? *merged_model_ : *base_model_;
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<Generator> generator, Generator::Create(model, 1));
  GenerationRequest request{.prompt = prompt, .max_new_tokens = tokens};
  if (mode == DecodeMode::kUnmerged) request.adapter = adapter_.get();
  DW_RETURN_IF_ERROR(generator->Add(std::move(request)).status());
  DecodeRun run;
  Clock::time_point begin;
  while (generator->active() > 0) {
    DW_ASSIGN_OR_RETURN(const std::vector<GeneratedToken> step, generator->Step());
    if (step.empty()) continue;  // A part of the prompt.
    run.tokens.push_back(step[0].token);
    if (run.tokens.size() == 1) begin = Clock::now();
  }
  run.decode_seconds = SecondsSince(begin);
  return run;
}

}  // namespace deltaworks::trainer
