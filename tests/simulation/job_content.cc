#include "tests/simulation/job_content.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "services/base/manifest.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::simulation {
namespace {

using services::Artifact;

constexpr char kStateMark[] = "state ";

uint64_t Mix(uint64_t bits) {
  bits += 0x9E3779B97F4A7C15;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB;
  return bits ^ (bits >> 31);
}

// Of every adapter here.
struct AdapterShape {
  AdapterShape() {
    config.rank = 1;
    config.target_modules = {"q_proj"};
    const auto targets =
        trainer::ResolveTargets(config, trainer::LlamaModules(trainer::SmallConfig()));
    CHECK(targets.ok()) << targets.status();
    tensors = trainer::AdapterTensors(*targets);
    parameters = trainer::TrainableParameters(*targets);
  }
  trainer::LoraConfig config;
  std::vector<trainer::AdapterTensor> tensors;
  int64_t parameters = 0;
};

const AdapterShape& Shape() {
  static const AdapterShape shape;
  return shape;
}

v1::Manifest ManifestOf(const v1::TrainTask& task, v1::Manifest::Kind kind, int64_t step) {
  v1::Manifest manifest;
  manifest.set_kind(kind);
  manifest.set_base_source_digest(task.facts().base_source_digest());
  manifest.set_base_form(task.facts().base_form());
  manifest.set_dataset_manifest_digest(task.facts().dataset_manifest_digest());
  manifest.set_numerics_class(kNumericsClass);
  manifest.set_step(step);
  return manifest;
}

}  // namespace

BaseContent MakeBase(const std::string& tenant) {
  BaseContent content;
  content.config = trainer::SmallConfig().ToJson();
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::BASE_MODEL);
  *manifest.add_files() = services::DescribeBytes("config.json", content.config);
  content.manifest = *services::SerializeManifest(manifest);
  content.base.set_name(absl::StrCat("tenants/", tenant, "/baseModels/base"));
  content.base.set_state(v1::BaseModel::READY);
  content.base.set_source_digest(Sha256Digest("the base"));
  content.base.set_form(v1::F32);
  content.base.set_manifest_digest(Sha256Digest(content.manifest));
  return content;
}

v1::TrainFacts FactsOf(const v1::TrainSpec& spec, const v1::BaseModel& base) {
  v1::TrainFacts facts;
  facts.set_base_source_digest(base.source_digest());
  facts.set_base_manifest_digest(base.manifest_digest());
  facts.set_base_form(base.form());
  facts.set_dataset_manifest_digest(Sha256Digest(spec.dataset()));
  facts.set_total_steps(spec.arguments().max_steps());
  facts.set_train_examples(100);
  facts.set_trainable_parameters(Shape().parameters);
  facts.set_total_parameters(32'768);
  facts.set_step_tokens(64);
  v1::MemoryNeed& memory = *facts.mutable_memory();
  memory.set_base_bytes(int64_t{1} << 30);
  memory.set_own_bytes(int64_t{1} << 30);
  memory.set_rows(64);
  memory.set_row_bytes(1024);
  facts.set_memory_bytes_max(memory.base_bytes() + memory.own_bytes() +
                             memory.rows() * memory.row_bytes());
  return facts;
}

uint64_t FirstState(absl::string_view job) {
  uint64_t state = 1;
  for (const char letter : job) state = Mix(state ^ static_cast<unsigned char>(letter));
  return state;
}

uint64_t NextState(uint64_t state, int64_t step) {
  return Mix(state ^ static_cast<uint64_t>(step) << 32);
}

v1::MetricPoint PointOf(uint64_t state, int64_t step) {
  v1::MetricPoint point;
  point.set_step(step);
  point.set_loss(static_cast<double>(state % 1000) / 1000);
  point.set_tokens(step * 64);
  return point;
}

Artifact MakeCheckpoint(const v1::TrainTask& task, uint64_t state, int64_t step) {
  std::vector<Artifact::File> files;
  files.emplace_back(services::kCheckpointFile, absl::StrCat(kStateMark, state));
  return services::MakeArtifact(ManifestOf(task, v1::Manifest::CHECKPOINT, step), std::move(files));
}

absl::StatusOr<uint64_t> ParseCheckpoint(absl::string_view bytes) {
  uint64_t state = 0;
  if (absl::ConsumePrefix(&bytes, kStateMark) && absl::SimpleAtoi(bytes, &state)) return state;
  return absl::DataLossError(absl::StrCat("not a checkpoint: ", bytes));
}

Artifact MakeResult(const v1::TrainTask& task, uint64_t state) {
  std::vector<float> values(static_cast<size_t>(Shape().parameters));
  for (float& value : values) {
    state = Mix(state);
    value = static_cast<float>(state % 1024) / 1024;
  }
  trainer::PeftFiles peft = trainer::SerializePeft(Shape().config, Shape().tensors, values, "base",
                                                   task.facts().base_source_digest());
  std::vector<Artifact::File> files;
  files.emplace_back(trainer::kAdapterConfigFile, std::move(peft.adapter_config));
  files.emplace_back(trainer::kAdapterModelFile, std::move(peft.adapter_model));
  v1::Manifest manifest = ManifestOf(task, v1::Manifest::ADAPTER, task.facts().total_steps());
  manifest.set_adapter_digest(files[1].entry.digest());
  manifest.set_probe_digest(files[1].entry.digest());
  return services::MakeArtifact(std::move(manifest), std::move(files));
}

std::string ExpectedResult(const v1::Job& job) {
  v1::TrainTask task;
  *task.mutable_spec() = job.train();
  *task.mutable_facts() = job.status().facts();
  uint64_t state = FirstState(job.name());
  for (int64_t step = 1; step <= task.facts().total_steps(); ++step) state = NextState(state, step);
  return MakeResult(task, state).manifest_digest;
}

}  // namespace deltaworks::simulation
