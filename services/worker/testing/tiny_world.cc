#include "services/worker/testing/tiny_world.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/worker/store_publisher.h"
#include "trainer/base/file.h"
#include "trainer/import/import.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::services {
namespace {

std::string AddManifest(FakeStoreClient& store, v1::Manifest manifest) {
  manifest.set_format_version(1);
  const auto bytes = SerializeManifest(std::move(manifest));
  CHECK(bytes.ok()) << bytes.status();
  return store.AddBlob("t", *bytes);
}

std::string AddDataset(FakeStoreClient& store, uint64_t seed, int examples) {
  std::mt19937_64 random(seed);
  std::string lines;
  for (int i = 0; i < examples; ++i) {
    std::string answer;
    for (int k = 2 + static_cast<int>(random() % 20); k > 0; --k) {
      answer += static_cast<char>('a' + random() % 26);
    }
    absl::StrAppend(&lines,
                    i % 2 == 0 ? R"({"messages":[{"role":"user","content":"say )"
                               : R"({"messages":[{"role":"user","content":"now )",
                    i, R"("},{"role":"assistant","content":")", answer, "\"}]}\n");
  }
  v1::Manifest manifest;
  manifest.set_kind(v1::Manifest::DATASET);
  *manifest.add_files() = DescribeBytes("data.jsonl", lines);
  store.AddBlob("t", lines);
  return AddManifest(store, manifest);
}

std::string AddBase(TinyWorld& world, trainer::DType form, const std::string& source_name) {
  const std::string folder =
      absl::StrCat(world.folder, "/", source_name, form == trainer::DType::kF32 ? "" : "-bf16");
  const auto imported = trainer::ImportModel({.source_path = world.folder + "/hf",
                                              .output_folder = folder,
                                              .form = form,
                                              .source_name = source_name});
  CHECK(imported.ok()) << imported.status();
  v1::Manifest base;
  base.set_kind(v1::Manifest::BASE_MODEL);
  for (const char* name : {"config.json", "manifest.json", "model.safetensors", "tokenizer.json",
                           "tokenizer_config.json"}) {
    const auto bytes = ReadFile(absl::StrCat(folder, "/", name));
    CHECK(bytes.ok()) << bytes.status();
    *base.add_files() = DescribeBytes(name, *bytes);
    world.store.AddBlob("t", *bytes);
  }
  return AddManifest(world.store, base);
}

}  // namespace

TinyWorld::TinyWorld() {
  folder = ::testing::TempDir() + "world";
  trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), folder + "/hf");
  base_digest = AddBase(*this, trainer::DType::kF32, "tiny");
  other_base_digest = AddBase(*this, trainer::DType::kF32, "other");
  bf16_base_digest = AddBase(*this, trainer::DType::kBF16, "tiny");
  train_digest = AddDataset(store, 1, 30);
  validation_digest = AddDataset(store, 2, 5);
  bases = std::make_unique<BaseCache>(folder + "/cache", store, registry);
}

TinyWorld& TheWorld() {
  static TinyWorld* world = new TinyWorld();
  return *world;
}

AttemptKey KeyOf(const std::string& job, int64_t epoch) {
  return {absl::StrCat("tenants/t/jobs/", job), epoch, absl::StrCat(job, "-", epoch)};
}

v1::TrainTask TinyTask(int64_t seed) {
  v1::TrainTask task;
  v1::TrainSpec& spec = *task.mutable_spec();
  spec.set_base_model("tenants/t/baseModels/tiny");
  spec.set_dataset("tenants/t/datasets/train");
  spec.set_validation_dataset("tenants/t/datasets/validation");
  spec.set_compute_type(v1::F32);
  spec.set_micro_batch_tokens(256);
  spec.mutable_text()->set_max_length(200);
  spec.mutable_lora()->set_rank(4);
  spec.mutable_lora()->set_lora_dropout(0.1);
  v1::TrainingArguments& arguments = *spec.mutable_arguments();
  arguments.set_max_steps(kTinySteps);
  arguments.set_per_device_train_batch_size(4);
  arguments.set_gradient_accumulation_steps(2);
  arguments.set_learning_rate(1e-3);
  arguments.set_eval_steps(5);
  arguments.set_seed(seed);
  v1::TrainFacts& facts = *task.mutable_facts();
  facts.set_base_manifest_digest(TheWorld().base_digest);
  facts.set_base_form(v1::F32);
  facts.set_dataset_manifest_digest(TheWorld().train_digest);
  facts.set_validation_manifest_digest(TheWorld().validation_digest);
  return task;
}

v1::TrainTask StartingFrom(v1::TrainTask task, const Artifact& checkpoint) {
  const absl::Status published = PublishArtifact(TheWorld().store, "tenants/t/jobs/j", checkpoint);
  CHECK(published.ok()) << published;
  task.mutable_start_checkpoint()->set_step(checkpoint.step);
  task.mutable_start_checkpoint()->set_manifest_digest(checkpoint.manifest_digest);
  return task;
}

}  // namespace deltaworks::services
