// Logits and gradients of small models equal those of transformers and PEFT (README.md).

#include <algorithm>
#include <cmath>
#include <deque>
#include <iostream>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/golden/golden_files.h"
#include "tests/golden/merge_difference.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/reference/reference_backend.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/merge.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::trainer {
namespace {

struct LoadedModel {
  explicit LoadedModel(const std::string& folder)
      : golden(folder),
        backend(NewReferenceBackend(DType::kF32)),
        workspace(*backend, golden.config) {
    auto created =
        Llama::Create(*backend, golden.config, golden.file->tensors(), {.positions_max = 128});
    CHECK(created.ok()) << created.status();
    model = std::move(*created);
  }
  const GoldenModel golden;
  const std::unique_ptr<Backend> backend;
  Workspace workspace;
  std::unique_ptr<Llama> model;
};

std::unique_ptr<Adapter> LoadAdapter(const Llama& model, const std::string& name) {
  const auto peft = ReadPeftFolder(GoldenPath("adapters/" + name), model.modules());
  CHECK(peft.ok()) << peft.status();
  auto adapter = Adapter::Create(model.backend(), peft->targets, /*trainable=*/true);
  CHECK(adapter.ok()) << adapter.status();
  (*adapter)->WriteParameters(peft->values);
  return std::move(*adapter);
}

std::vector<int32_t> AllRows(size_t count) {
  std::vector<int32_t> rows(count);
  for (size_t i = 0; i < count; ++i) rows[i] = static_cast<int32_t>(i);
  return rows;
}

float LargestDifference(const std::vector<float>& got, const ConstTensorView& want) {
  CHECK_EQ(static_cast<int64_t>(got.size()), want.elements());
  float largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::abs(got[i] - want.as<const float>()[i]));
  }
  return largest;
}

class LogitsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LogitsTest, AreThoseOfTransformers) {
  LoadedModel loaded(GetParam());
  const Json sequences = GoldenJson("sequences.json")[GetParam()];
  const auto want = GoldenTensors(std::string("logits_") + GetParam() + ".safetensors");
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<int32_t> ids = GoldenIds(sequences[i]);
    PackedBatch batch;
    batch.AppendDocument(ids, std::vector<int32_t>(ids.size(), -1), 1);
    const auto got = loaded.model->Logits(batch, AllRows(ids.size()), loaded.workspace);
    ASSERT_TRUE(got.ok()) << got.status();
    const ConstTensorView* logits = want->contents().Find("logits_" + std::to_string(i));
    ASSERT_NE(logits, nullptr);
    // Two f32 orders of summation: transformers' own two attention paths differ by 1.5e-5.
    EXPECT_LT(LargestDifference(*got, *logits), 1e-4) << "sequence " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LogitsTest, ::testing::Values("tiny", "tiny_untied"));

TEST(AdapterLogitsTest, AnAdapterOfPeftAnswersAsInPeft) {
  LoadedModel loaded("tiny");
  const std::vector<int32_t> ids = GoldenIds(GoldenJson("sequences.json")["tiny"][1]);
  for (const char* name : {"all_linear", "attention_rslora"}) {
    const auto adapter = LoadAdapter(*loaded.model, std::string(name) + "_final");
    PackedBatch batch;
    batch.BeginSegment(adapter.get(), {});
    batch.AppendDocument(ids, std::vector<int32_t>(ids.size(), -1), 1);
    batch.EndSegment();
    const auto got = loaded.model->Logits(batch, AllRows(ids.size()), loaded.workspace);
    ASSERT_TRUE(got.ok()) << got.status();
    const auto want = GoldenTensors(std::string("merged_") + name + ".safetensors");
    EXPECT_LT(LargestDifference(*got, *want->contents().Find("logits_adapter")), 1e-4) << name;
  }
}

TEST(MergeTest, WeightsAndLogitsAreThoseOfPeft) {
  const GoldenModel golden("tiny");
  const auto backend = *NewCpuBackend({.compute_type = DType::kF32, .threads = 2});
  const std::vector<int32_t> ids = GoldenIds(GoldenJson("sequences.json")["tiny"][1]);
  for (const char* name : {"all_linear", "attention_rslora"}) {
    const auto peft = *ReadPeftFolder(GoldenPath(std::string("adapters/") + name + "_final"),
                                      LlamaModules(golden.config));
    const auto merged = MergedWeights::Create(golden.file->tensors(), peft.targets, peft.values);
    ASSERT_TRUE(merged.ok()) << merged.status();
    const auto want = GoldenTensors(std::string("merged_") + name + ".safetensors");
    const std::string weight = "model.layers.0.self_attn.q_proj.weight";
    const ConstTensorView& got_weight = (*merged)->tensors().at(weight);
    const float* data = got_weight.as<const float>();
    // Both round the product and the sum in f32; weights are of order 0.1.
    EXPECT_LT(LargestDifference(std::vector<float>(data, data + got_weight.elements()),
                                *want->contents().Find(weight)),
              1e-7)
        << name;
    const auto model =
        *Llama::Create(*backend, golden.config, (*merged)->tensors(), {.positions_max = 128});
    Workspace workspace(*backend, golden.config);
    PackedBatch batch;
    batch.AppendDocument(ids, std::vector<int32_t>(ids.size(), -1), 1);
    const auto logits = *model->Logits(batch, AllRows(ids.size()), workspace);
    EXPECT_LT(LargestDifference(logits, *want->contents().Find("logits_merged")), 1e-4) << name;
  }
}

// The base's matrices rounded to bf16; `storage` keeps them.
TensorMap InBf16(TensorMap base, std::deque<std::vector<BFloat16>>& storage) {
  for (auto& [name, tensor] : base) {
    if (tensor.shape.size() == 1) continue;  // Norms stay f32.
    std::vector<BFloat16>& values = storage.emplace_back();
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      values.emplace_back(tensor.as<const float>()[i]);
    }
    tensor = ConstTensorView(values.data(), DType::kBF16, tensor.shape);
  }
  return base;
}

TEST(MergeTest, MergedLogitsAreTheUnmergedOnesUpToTheRoundingOfMergedWeights) {
  const GoldenModel golden("tiny");
  std::deque<std::vector<BFloat16>> storage;
  const TensorMap& f32 = golden.file->tensors();
  const TensorMap bf16 = InBf16(f32, storage);
  const std::vector<int32_t> ids = GoldenIds(GoldenJson("sequences.json")["tiny"][1]);
  // In f64 nothing but the weights is rounded; the cpu's own types are what users run.
  const auto exact = NewReferenceBackend(DType::kF64);
  const auto cpu_f32 = *NewCpuBackend({.compute_type = DType::kF32, .threads = 2});
  const auto cpu_bf16 = *NewCpuBackend({.compute_type = DType::kBF16, .threads = 2});
  for (const char* name : {"all_linear", "attention_rslora"}) {
    const auto peft = *ReadPeftFolder(GoldenPath(std::string("adapters/") + name + "_final"),
                                      LlamaModules(golden.config));
    for (const auto& [backend, base, form] :
         {std::tuple(exact.get(), &f32, "f32"), std::tuple(exact.get(), &bf16, "bf16"),
          std::tuple(cpu_f32.get(), &f32, "f32"), std::tuple(cpu_bf16.get(), &bf16, "bf16")}) {
      SCOPED_TRACE(std::string(name) + " in " + form + " on " + backend->numerics_class());
      const MergeDifference difference =
          MeasureMergeDifference(*backend, golden.config, *base, peft, ids, AllRows(ids.size()));
      EXPECT_LT(difference.largest, difference.bound);
      EXPECT_LT(2 * difference.bound, difference.adapter) << "the bound would hide the adapter";
      std::cout << name << " in " << form << " on " << backend->numerics_class()
                << ": a logit differs by at most " << difference.largest << ", bound "
                << difference.bound << "; the adapter changes it by up to " << difference.adapter
                << "\n";
    }
  }
}

TEST(GenerationTest, GreedyTokensAreThoseOfTransformersAndPeft) {
  const GoldenModel golden("tiny");
  const auto backend = *NewCpuBackend({.compute_type = DType::kF32, .threads = 2});
  const auto model =
      *Llama::Create(*backend, golden.config, golden.file->tensors(), {.positions_max = 128});
  const Json file = GoldenJson("generation.json");
  int compared = 0;
  for (const Json& generation : file["generations"]) {
    if (generation["base"] != "tiny") continue;
    const std::string name = generation["adapter"];
    const auto adapter = name.empty() ? nullptr : LoadAdapter(*model, name);
    const std::vector<int32_t> want = GoldenIds(generation["tokens"]);
    const auto generator = *Generator::Create(*model, 1);
    ASSERT_TRUE(generator
                    ->Add({.prompt = GoldenIds(generation["prompt"]),
                           .adapter = adapter.get(),
                           .max_new_tokens = static_cast<int64_t>(want.size())})
                    .ok());
    std::vector<int32_t> got;
    while (generator->active() > 0) {
      const auto step = generator->Step();
      ASSERT_TRUE(step.ok()) << step.status();
      for (const GeneratedToken& token : *step) got.push_back(token.token);
    }
    EXPECT_EQ(got, want) << "adapter \"" << name << "\"";
    ++compared;
  }
  EXPECT_EQ(compared, 3);
}

TEST(GradientsTest, AreThoseOfPeft) {
  LoadedModel loaded("tiny");
  const auto adapter = LoadAdapter(*loaded.model, "all_linear_final");
  const Json step = GoldenJson("train_data.json")["steps"][0];
  int64_t label_count = 0;
  for (const Json& example : step) {
    const std::vector<int32_t> labels = GoldenIds(example["labels"]);
    label_count +=
        std::count_if(labels.begin() + 1, labels.end(), [](int32_t l) { return l >= 0; });
  }
  PackedBatch batch;
  batch.BeginSegment(adapter.get(), {});
  for (const Json& example : step) {
    const std::vector<int32_t> ids = GoldenIds(example["ids"]);
    std::vector<int32_t> next = GoldenIds(example["labels"]);
    next.erase(next.begin());
    next.push_back(-1);
    batch.AppendDocument(ids, next, 1.0 / static_cast<double>(label_count));
  }
  batch.EndSegment();
  const auto losses = loaded.model->LossesAndGradients(batch, loaded.workspace);
  ASSERT_TRUE(losses.ok()) << losses.status();
  double loss = 0;
  for (const double value : *losses) loss += value / static_cast<double>(label_count);
  const auto want = GoldenTensors("gradients_all_linear.safetensors");
  EXPECT_NEAR(loss, want->contents().Find("loss")->as<const float>()[0], 1e-5 * loss);
  const float* gradient = adapter->gradient().as<float>();
  for (const AdapterTensor& tensor : adapter->tensors()) {
    const ConstTensorView* view = want->contents().Find(tensor.name);
    ASSERT_NE(view, nullptr) << tensor.name;
    const std::vector<float> got(gradient + tensor.offset,
                                 gradient + tensor.offset + tensor.elements());
    // The original differs from itself by 9.5e-7.
    EXPECT_LT(LargestDifference(got, *view), 1e-5) << tensor.name;
  }
}

}  // namespace
}  // namespace deltaworks::trainer
