// Merged weights cost what the base costs: the same operations on the same shapes, as many tensors
// and numbers; an adapter beside the base costs its two small products more, and nothing else. And
// what a pass asks for is what it needs.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/bench/decode/decode_case.h"
#include "tests/bench/decode/tracing_backend.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/generate/generator.h"
#include "trainer/generate/kv_pool.h"
#include "trainer/model/llama.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::trainer {
namespace {

class DecodeTraceTest : public ::testing::TestWithParam<DType> {
 protected:
  DecodeTraceTest() : weights_(SmallConfig(), GetParam(), /*seed=*/3) {
    adapter_.targets = *ResolveTargets({.rank = 2}, LlamaModules(weights_.config()));
    for (int64_t i = 0; i < TrainableParameters(adapter_.targets); ++i) {
      adapter_.values.push_back(0.3f * std::sin(static_cast<float>(i)));
    }
    case_ = *DecodeCase::Create(tracing_, weights_.config(), weights_.tensors(), adapter_, 40);
  }

  std::vector<std::string> Trace(DecodeMode mode, std::vector<int32_t>* tokens) {
    tracing_.TakeTrace();
    *tokens = case_->Run(mode, {5, 9, 2}, 6)->tokens;
    return tracing_.TakeTrace();
  }

  const RandomModel weights_;
  const std::unique_ptr<Backend> backend_ = *NewCpuBackend({.compute_type = GetParam()});
  TracingBackend tracing_{*backend_};
  PeftAdapter adapter_;
  std::unique_ptr<DecodeCase> case_;
};

TEST_P(DecodeTraceTest, MergedRunsTheOperationsOfTheBase) {
  std::vector<int32_t> base_tokens, merged_tokens;
  const auto base = Trace(DecodeMode::kBase, &base_tokens);
  EXPECT_EQ(Trace(DecodeMode::kMerged, &merged_tokens), base);
  EXPECT_NE(merged_tokens, base_tokens);
  EXPECT_GT(base.size(), 6u * 10);
}

TEST_P(DecodeTraceTest, UnmergedRunsThemWithSegmentsAndSaysTheSame) {
  std::vector<int32_t> base_tokens, merged_tokens, unmerged_tokens;
  const auto base = Trace(DecodeMode::kBase, &base_tokens);
  Trace(DecodeMode::kMerged, &merged_tokens);
  const auto unmerged = Trace(DecodeMode::kUnmerged, &unmerged_tokens);
  ASSERT_EQ(unmerged.size(), base.size());
  for (size_t i = 0; i < base.size(); ++i) {
    EXPECT_EQ(unmerged[i] != base[i], absl::StartsWith(base[i], "LinearGroupForward")) << base[i];
  }
  // In bf16 merged weights are rounded once more, and close calls may differ.
  if (GetParam() == DType::kF32) {
    EXPECT_EQ(unmerged_tokens, merged_tokens);
  }
}

TEST_P(DecodeTraceTest, MergedHasTheTensorsOfTheBase) {
  const TensorMap& merged = case_->merged().tensors();
  ASSERT_EQ(merged.size(), weights_.tensors().size());
  for (const auto& [name, tensor] : weights_.tensors()) {
    EXPECT_EQ(merged.at(name).shape, tensor.shape) << name;
    EXPECT_EQ(merged.at(name).dtype, tensor.dtype) << name;
  }
}

TEST_P(DecodeTraceTest, OnlyTheLastPieceOfAPromptAsksForLogitsAndATokenAllocatesNothing) {
  const auto model =
      *Llama::Create(tracing_, weights_.config(), weights_.tensors(), {.positions_max = 40});
  const auto pool = *KvPool::Create(tracing_, weights_.config(), 40);
  const auto generator =
      Generator::CreateOn(*model, *pool, {.streams_max = 1, .prompt_rows_max = 4});
  ASSERT_TRUE(generator->Add({.prompt = std::vector<int32_t>(12, 3), .max_new_tokens = 8}).ok());
  for (int pass = 0; pass < 8; ++pass) {
    tracing_.TakeTrace();
    const int64_t allocations = tracing_.allocations();
    const auto tokens = generator->Step();
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    const std::vector<std::string> trace = tracing_.TakeTrace();
    const auto logits = std::count_if(trace.begin(), trace.end(), [](const std::string& line) {
      return absl::StartsWith(line, "Logits");
    });
    EXPECT_EQ(logits, pass < 2 ? 0 : 1) << pass;
    EXPECT_EQ(tokens->size(), pass < 2 ? 0u : 1u) << pass;
    // The workspace grows with the first piece, and with the first logits.
    if (pass != 0 && pass != 2) {
      EXPECT_EQ(tracing_.allocations(), allocations) << pass;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DecodeTraceTest, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace deltaworks::trainer
