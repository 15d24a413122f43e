#include "services/cli/testing/cli_world.h"

#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/cli/all_commands.h"
#include "services/cli/grpc_platform.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/formats/manifest.h"
#include "trainer/import/import.h"
#include "trainer/import/tiny_model.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

constexpr char kBase[] = "tenants/default/baseModels/smollm2";
constexpr char kDataset[] = "tenants/default/datasets/notes";
constexpr char kJob[] = "tenants/default/jobs/job-7";
constexpr char kAdapter[] = "tenants/default/adapters/notes";
constexpr char kPairs[] =
    "{\"prompt\": \"long text one\", \"completion\": \"short one\"}\n"
    "{\"prompt\": \"long text two\", \"completion\": \"short two\"}\n";

class FakePlatform final : public Platform {
 public:
  FakePlatform(CliWorld& world, PlatformSettings settings)
      : world_(world), settings_(std::move(settings)) {}
  const PlatformSettings& settings() const override { return settings_; }
  absl::StatusOr<TrainingClient*> training() override { return world_.training_client; }
  absl::StatusOr<OperatorClient*> operators() override { return &world_.operators; }
  absl::StatusOr<StoreClient*> store() override { return &world_.store; }
  absl::StatusOr<RegistryClient*> registry() override { return &world_.registry; }
  absl::StatusOr<InferenceClient*> inference() override { return &world_.inference; }

 private:
  CliWorld& world_;
  const PlatformSettings settings_;
};

void Write(const std::string& path, absl::string_view text) {
  CHECK(WriteFileAtomically(path, text).ok()) << path;
}

// The tiny model, imported once for all worlds of a process.
struct ImportedModel {
  std::string folder;  // With tiny/, the source, and imported/.
  trainer::ModelManifest manifest;
  std::map<std::string, std::string> files;  // By name, their bytes.
};

const ImportedModel& Imported() {
  static const ImportedModel& imported = *[] {
    auto* model = new ImportedModel;
    model->folder = absl::StrCat(::testing::TempDir(), "/cli-model-", getpid());
    std::filesystem::remove_all(model->folder);
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), model->folder + "/tiny");
    const auto result = trainer::ImportModel({.source_path = model->folder + "/tiny",
                                              .output_folder = model->folder + "/imported",
                                              .form = trainer::DType::kF32,
                                              .source_name = "tiny"});
    CHECK(result.ok()) << result.status();
    model->manifest = result->manifest;
    std::vector<std::string> names = {trainer::kManifestFile};
    for (const trainer::ManifestFile& file : result->manifest.files) names.push_back(file.name);
    for (const std::string& name : names) {
      const auto bytes = ReadFile(absl::StrCat(model->folder, "/imported/", name));
      CHECK(bytes.ok()) << bytes.status();
      model->files[name] = *bytes;
    }
    return model;
  }();
  return imported;
}

// An adapter of rank 2 on q_proj of the tiny model, B not zero.
trainer::PeftFiles TinyAdapter(const trainer::ModelConfig& config, const std::string& base) {
  trainer::LoraConfig lora;
  lora.rank = 2;
  lora.target_modules = {"q_proj"};
  const auto targets = trainer::ResolveTargets(lora, trainer::LlamaModules(config));
  CHECK(targets.ok()) << targets.status();
  const std::vector<trainer::AdapterTensor> tensors = trainer::AdapterTensors(*targets);
  int64_t elements = 0;
  for (const trainer::AdapterTensor& tensor : tensors) elements += tensor.elements();
  std::vector<float> values;
  for (int64_t i = 0; i < elements; ++i) values.push_back(static_cast<float>(i % 7) / 8);
  return trainer::SerializePeft(lora, tensors, values, "tiny", base);
}

}  // namespace

CliWorld::CliWorld(const std::string& name)
    : folder_(absl::StrCat(::testing::TempDir(), "/cli-", name)) {
  std::filesystem::remove_all(folder_);
  CHECK(MakeDirectories(folder_).ok());
  environment["HOME"] = folder_;
}

CliWorld::Result CliWorld::Run(std::vector<std::string> words) {
  for (std::string& word : words) word = absl::StrReplaceAll(word, {{"{}", folder_}});
  std::ostringstream out, err;
  std::istringstream in(input);
  const DwProcess process{
      .out = out,
      .err = err,
      .in = in,
      .clock = clock,
      .environment =
          [this](const std::string& name) {
            const auto found = environment.find(name);
            return found == environment.end() ? "" : found->second;
          },
      .make_platform = [this](PlatformSettings settings) -> std::unique_ptr<Platform> {
        if (!up) return MakeGrpcPlatform(std::move(settings));
        return std::make_unique<FakePlatform>(*this, std::move(settings));
      },
      .sleep =
          [this](absl::Duration duration) {
            clock.Advance(duration);
            if (while_asleep != nullptr) while_asleep();
          },
      .on_interrupt = [this](const std::string& note) { interrupt_note = note; },
      .terminal = terminal,
      .err_terminal = err_terminal,
  };
  Result result;
  result.code = RunDw(AllCommands(), words, process);
  result.out = out.str();
  result.err = err.str();
  return result;
}

void CliWorld::Fill() {
  Write(Path("data.jsonl"), kPairs);
  Write(Path("model.gguf"), "GGUF, as far as anybody here can tell");
  Write(
      Path("job.json"),
      "{\"train\": {\"base_model\": \"smollm2\", \"dataset\": \"notes\", \"lora\": {\"r\": 16}}}");
  Write(Path("jobs.yaml"),
        "base_model: smollm2\n"
        "defaults: {arguments: {learning_rate: 1e-3, max_steps: 100}}\n"
        "jobs:\n"
        "  - {name: one, dataset: notes}\n"
        "  - {name: two, dataset: notes, lora: {r: 16}}\n");
  environment["DELTAWORKS_TOKENS_FILE"] = Path("tokens");
  FillStore();
  FillJob();
  FillRegistry();
  FillInference();
  FillOperators();
}

void CliWorld::FillStore() {
  const ImportedModel& model = Imported();
  for (const char* folder : {"tiny", "imported"}) {
    std::filesystem::create_directory_symlink(model.folder + "/" + folder, Path(folder));
  }
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::BASE_MODEL);
  for (const auto& [name, bytes] : model.files) {
    store.AddBlob("default", bytes);
    *manifest.add_files() = DescribeBytes(name, bytes);
  }
  const auto serialized = SerializeManifest(manifest);
  CHECK(serialized.ok()) << serialized.status();

  v1::BaseModel base;
  base.set_name(kBase);
  base.set_state(v1::BaseModel::READY);
  base.set_source_digest(model.manifest.source_digest);
  base.set_form(v1::F32);
  base.set_manifest_digest(store.AddBlob("default", *serialized));
  base.set_architecture("llama");
  base.set_parameter_count(model.manifest.parameters);
  base.set_size_bytes(80'000);
  base.add_target_modules("q_proj");
  store.PutBaseModel(base);

  v1::Dataset dataset;
  dataset.set_name(kDataset);
  dataset.set_blob_digest(store.AddBlob("default", kPairs));
  dataset.set_format(v1::Dataset::PROMPT_COMPLETION);
  dataset.set_example_count(2);
  store.PutDataset(dataset);

  v1::DatasetReport report;
  report.set_format(v1::Dataset::PROMPT_COMPLETION);
  report.set_example_count(800);
  report.set_tokens(102'400);
  report.set_tokens_min(90);
  report.set_tokens_median(127);
  report.set_tokens_p95(140);
  report.set_tokens_max(300);
  report.set_train_examples(800);
  report.set_train_tokens(102'000);
  report.set_label_tokens(10'200);
  v1::LengthCount& longer = *report.add_longer_than();
  longer.set_length_tokens(256);
  longer.set_count(4);
  store.SetReport(report);

  v1::PreviewDatasetResponse preview;
  v1::ExamplePreview& example = *preview.add_examples();
  example.set_line(1);
  example.set_token_count(12);
  example.set_label_count(3);
  example.add_pieces()->set_text("long text one");
  v1::PreviewPiece& label = *example.add_pieces();
  label.set_text(" short one");
  label.set_has_label(true);
  store.SetPreview(preview);
}

void CliWorld::FillJob() {
  v1::Job job;
  job.set_name(kJob);
  v1::TrainSpec& spec = *job.mutable_train();
  spec.set_base_model(kBase);
  spec.set_dataset(kDataset);
  spec.set_adapter(kAdapter);
  spec.mutable_lora()->set_rank(8);
  v1::JobStatus& status = *job.mutable_status();
  status.set_state(v1::SUCCEEDED);
  status.set_reason(v1::VERSION_CREATED);
  status.mutable_facts()->set_trainable_parameters(4'608);
  status.mutable_facts()->set_total_parameters(32'768);
  status.mutable_progress()->set_step(100);
  status.mutable_progress()->set_total_steps(100);
  status.mutable_progress()->set_loss(2.5);
  status.mutable_result()->set_version(absl::StrCat(kAdapter, "/versions/1"));
  v1::Attempt& attempt = *status.add_attempts();
  attempt.set_lease_epoch(1);
  attempt.set_worker("workers/box-cpu-0");
  attempt.set_end(v1::Attempt::COMPLETED);
  attempt.mutable_grant_time()->set_seconds(1'704'067'000);
  attempt.mutable_end_time()->set_seconds(1'704'067'090);
  status.set_attempt_count(1);
  training.jobs[kJob] = job;

  v1::Worker worker;
  worker.set_name("workers/box-cpu-0");
  worker.set_online(true);
  worker.mutable_environment()->set_device("cpu:0");
  worker.set_job_count(1);
  worker.set_mode(v1::WORKER_ACTIVE);
  training.workers.push_back(worker);
  training.watches.push_back({WatchOfJob(job, 100), absl::OkStatus()});
}

void CliWorld::FillRegistry() {
  const auto base = store.GetBaseModel(kBase);
  CHECK(base.ok());
  const trainer::PeftFiles files =
      TinyAdapter(trainer::MakeTinyModel().config, base->source_digest());
  v1::CreateVersionRequest request;
  request.set_parent(kAdapter);
  v1::AdapterVersion& version = *request.mutable_adapter_version();
  version.mutable_source()->set_job(kJob);
  version.mutable_source()->set_result(true);
  version.set_base_model(kBase);
  version.set_base_source_digest(base->source_digest());
  version.set_base_form(v1::F32);
  version.set_dataset(kDataset);
  version.set_trainable_parameters(4'608);
  version.set_adapter_digest(Sha256Digest(files.adapter_model));
  CHECK(registry.CreateVersion(request).ok());
  registry.PutFiles({{"adapter_config.json", files.adapter_config},
                     {"adapter_model.safetensors", files.adapter_model}});
  v1::SetAliasRequest alias;
  alias.mutable_alias()->set_name(absl::StrCat(kAdapter, "/aliases/champion"));
  alias.mutable_alias()->set_version(absl::StrCat(kAdapter, "/versions/1"));
  alias.set_comment("the first");
  CHECK(registry.SetAlias(alias).ok());
}

void CliWorld::FillInference() {
  const auto is_adapter = [](const v1::ModelSelector& model) {
    return model.model().find("/adapters/") != std::string::npos;
  };
  inference.on_generate = [is_adapter](const v1::GenerateRequest& request,
                                       const InferenceClient::Sink& sink) {
    const bool adapted = is_adapter(request.model());
    v1::GenerateResponse first;
    first.set_text(adapted ? "short" : "a very");
    absl::Status status = sink(first);
    if (!status.ok()) return status;
    v1::GenerateResponse last;
    last.set_text(adapted ? " one" : " long answer");
    last.set_finish_reason(v1::GenerateResponse::STOP);
    last.set_prompt_tokens(3);
    last.set_generated_tokens(2);
    last.mutable_decode_time()->set_nanos(500'000'000);
    return sink(last);
  };
  inference.on_score = [is_adapter](const v1::ScoreRequest& request) {
    v1::ScoreResponse response;
    if (is_adapter(request.model())) {
      response.set_version(absl::StrCat(kAdapter, "/versions/1"));
    }
    for (int i = 0; i < request.examples_size(); ++i) {
      v1::ExampleScore& score = *response.add_scores();
      score.set_label_tokens(4);
      score.set_negative_log_likelihood((is_adapter(request.model()) ? 8 : 16) + i);
    }
    return response;
  };
}

void CliWorld::FillOperators() {
  v1::Quota& quota = operators.quotas["tenants/team-a/quota"];
  quota.set_name("tenants/team-a/quota");
  quota.set_weight(2);
  quota.set_guaranteed_devices(4);
  quota.set_limit_devices(16);
  quota.set_etag("7");
  v1::UsageDay& row = operators.usage.emplace_back();
  row.set_tenant("tenants/default");
  row.mutable_day()->set_seconds(absl::ToUnixSeconds(clock.Now()));
  row.set_device_ms(5'400'000);
  row.set_tokens(1'200'000);
}

std::vector<v1::WatchJobResponse> WatchOfJob(const v1::Job& job, int steps) {
  std::vector<v1::WatchJobResponse> responses(1);
  v1::JobEvent& event = *responses[0].add_events();
  event.set_seq(1);
  event.set_type(v1::JobEvent::STATE_CHANGED);
  event.set_state(v1::RUNNING);
  event.set_reason(v1::GRANTED);
  event.set_level(v1::JobEvent::INFO);
  event.mutable_time()->set_seconds(1'704'067'000);
  v1::MetricPoint& before = *responses[0].add_metrics();
  before.set_eval_loss(4.03);
  for (int step = 1; step <= steps; ++step) {
    v1::MetricPoint& point = *responses[0].add_metrics();
    point.set_step(step);
    point.set_loss(4.0 - 1.5 * step / steps);
    point.set_tokens_per_second(950);
    point.set_tokens(step * 1000);
    if (step == steps) point.set_eval_loss(2.57);
  }
  responses[0].set_first_metric(1);
  *responses[0].mutable_job() = job;
  responses[0].mutable_job()->mutable_status()->set_state(v1::RUNNING);
  responses[0].mutable_job()->mutable_status()->mutable_progress()->set_eta_seconds(75);
  responses.emplace_back();
  *responses[1].mutable_job() = job;
  v1::JobEvent& done = *responses[1].add_events();
  done.set_seq(2);
  done.set_type(v1::JobEvent::STATE_CHANGED);
  done.set_state(job.status().state());
  done.set_level(v1::JobEvent::INFO);
  done.mutable_time()->set_seconds(1'704'067'090);
  return responses;
}

}  // namespace deltaworks::services
