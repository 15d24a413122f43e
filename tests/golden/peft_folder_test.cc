// The other direction: a folder that we write is an adapter to PEFT. llama/peft_folder was written
// by the function below and loaded by PeftModel.from_pretrained, whose logits are committed beside
// it (llama/make_golden.py). Here: we still write these very bytes, and give PEFT's logits.
//
// When the format changes, the new folder is in bazel-testlogs/.../test.outputs; run make_golden.py
// with it.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/golden/golden_files.h"
#include "trainer/backend/reference/reference_backend.h"
#include "trainer/base/file.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::trainer {
namespace {

// Everything that a folder can say: several targets, other ranks and alphas for some of them.
LoraConfig Config() {
  LoraConfig config;
  config.rank = 3;
  config.lora_alpha = 6;
  config.target_modules = {"q_proj", "v_proj", "down_proj"};
  config.rank_pattern = {{"q_proj", 5}, {"layers.1.mlp.down_proj", 2}};
  config.alpha_pattern = {{"v_proj", 9}};
  return config;
}

// In [-0.1, 0.1], multiples of 2^-27: the same floats everywhere.
std::vector<float> Values(int64_t count) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<uint32_t>(i * 2654435761u) >> 8;
    values[i] = (static_cast<float>(bits) * 0x1p-24f - 0.5f) * 0.2f;
  }
  return values;
}

TEST(PeftFolderTest, ThatWeWriteIsTheOneThatPeftLoadedAndAnswersAlike) {
  const GoldenModel golden("tiny");
  const auto backend = NewReferenceBackend(DType::kF32);
  const auto model =
      Llama::Create(*backend, golden.config, golden.file->tensors(), {.positions_max = 128});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto targets = ResolveTargets(Config(), (*model)->modules());
  ASSERT_TRUE(targets.ok()) << targets.status();
  const auto adapter = Adapter::Create(*backend, *targets, /*trainable=*/false);
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  (*adapter)->WriteParameters(Values((*adapter)->elements()));
  const PeftFiles files = SerializePeft(Config(), (*adapter)->tensors(),
                                        (*adapter)->ReadParameters(), "tiny", /*base_digest=*/"");
  if (const char* outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR")) {
    ASSERT_TRUE(WritePeftFolder(std::string(outputs) + "/peft_folder", files).ok());
  }

  const auto committed_model = ReadFile(GoldenPath("peft_folder/adapter_model.safetensors"));
  const auto committed_config = ReadFile(GoldenPath("peft_folder/adapter_config.json"));
  ASSERT_TRUE(committed_model.ok()) << committed_model.status();
  ASSERT_TRUE(committed_config.ok()) << committed_config.status();
  EXPECT_TRUE(files.adapter_model == *committed_model) << "other bytes";
  EXPECT_EQ(files.adapter_config, *committed_config);

  const std::vector<int32_t> ids = GoldenIds(GoldenJson("sequences.json")["tiny"][1]);
  PackedBatch batch;
  batch.BeginSegment(adapter->get(), {});
  batch.AppendDocument(ids, std::vector<int32_t>(ids.size(), -1), 1);
  batch.EndSegment();
  std::vector<int32_t> rows(ids.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  Workspace workspace(*backend, golden.config);
  const auto logits = (*model)->Logits(batch, rows, workspace);
  ASSERT_TRUE(logits.ok()) << logits.status();
  const auto file = GoldenTensors("peft_folder_logits.safetensors");
  const ConstTensorView* want = file->contents().Find("logits");
  const ConstTensorView* base = file->contents().Find("logits_base");
  ASSERT_EQ(static_cast<int64_t>(logits->size()), want->elements());
  float largest = 0, change = 0;
  for (size_t i = 0; i < logits->size(); ++i) {
    largest = std::max(largest, std::abs((*logits)[i] - want->as<const float>()[i]));
    change = std::max(change, std::abs(want->as<const float>()[i] - base->as<const float>()[i]));
  }
  // As in llama_golden_test; the adapter itself moves them a thousand times as far.
  EXPECT_LT(largest, 1e-4);
  EXPECT_GT(change, 0.1);
}

}  // namespace
}  // namespace deltaworks::trainer
