#include "services/inference/testing/inference_world.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/base/spec_conversion.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/import/import.h"
#include "trainer/import/tiny_model.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

constexpr const char* kBaseFiles[] = {"config.json", "manifest.json", "model.safetensors",
                                      "tokenizer.json", "tokenizer_config.json"};

std::string FreshFolder() {
  static int number = 0;
  const std::string folder =
      absl::StrCat(::testing::TempDir(), "/inference_", getpid(), "_", ++number);
  std::filesystem::remove_all(folder);
  return folder;
}

}  // namespace

InferenceCore::Options SmallOptions() {
  InferenceCore::Options options;
  options.engine = {.streams_max = 8, .queue_max = 16, .kv_tokens_max = 1024};
  return options;
}

absl::StatusOr<std::unique_ptr<trainer::Backend>> MakeCpuBackend(trainer::DType type) {
  return trainer::NewCpuBackend({.compute_type = type});
}

InferenceWorld::InferenceWorld(const InferenceCore::Options& options,
                               Engine::BackendFactory make_backend, const Clock& clock)
    : folder_(FreshFolder()) {
  AddBase(kTiny, 1, trainer::DType::kF32);
  AddBase(kTinyBf16, 1, trainer::DType::kBF16);
  AddBase(kOther, 2, trainer::DType::kF32);
  AddBase(kTheirs, 1, trainer::DType::kF32);
  v1::BaseModel importing;
  importing.set_name(kImporting);
  importing.set_state(v1::BaseModel::IMPORTING);
  store_.PutBaseModel(importing);
  AddVersion("tenants/acme/adapters/poet", 1);
  AddVersion("tenants/acme/adapters/coder", 2);
  bases_ = std::make_unique<BaseCache>(folder_ + "/cache", store_, metrics_);
  core_ = std::make_unique<InferenceCore>(options, std::move(make_backend), store_, registry_,
                                          *bases_, inference_metrics_, clock);
}

void InferenceWorld::AddBase(const std::string& name, uint32_t seed, trainer::DType form) {
  const std::string tenant(TenantOf(name));
  const std::string folder = absl::StrCat(folder_, "/", Sha256Digest(name).substr(7, 8));
  trainer::WriteTinyHfFolder(trainer::MakeTinyModel(true, seed), folder + "/hf");
  const auto imported = trainer::ImportModel({.source_path = folder + "/hf",
                                              .output_folder = folder + "/base",
                                              .form = form,
                                              .source_name = "tiny"});
  CHECK(imported.ok()) << imported.status();
  config_ = imported->config;
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::BASE_MODEL);
  for (const char* file : kBaseFiles) {
    const auto bytes = ReadFile(absl::StrCat(folder, "/base/", file));
    CHECK(bytes.ok()) << bytes.status();
    *manifest.add_files() = DescribeBytes(file, *bytes);
    store_.AddBlob(tenant, *bytes);
  }
  v1::BaseModel base;
  base.set_name(name);
  base.set_state(v1::BaseModel::READY);
  base.set_source_digest(imported->manifest.source_digest);
  base.set_form(ToNumberType(form));
  base.set_manifest_digest(store_.AddBlob(tenant, *SerializeManifest(manifest)));
  store_.PutBaseModel(base);
}

trainer::PeftFiles InferenceWorld::MakeFiles(int seed, const std::string& base_digest) const {
  const trainer::LoraConfig lora = {.rank = 4, .lora_alpha = 8};
  const auto targets = trainer::ResolveTargets(lora, trainer::LlamaModules(config_));
  CHECK(targets.ok()) << targets.status();
  std::vector<float> values(trainer::TrainableParameters(*targets));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.2f * std::sin(static_cast<float>(seed) * 7.0f + static_cast<float>(i) * 1.7f);
  }
  return trainer::SerializePeft(lora, trainer::AdapterTensors(*targets), values, "tiny",
                                base_digest);
}

std::string InferenceWorld::AddVersion(const std::string& adapter, int seed,
                                       const std::string& file_digest) {
  const v1::BaseModel base = BaseModel(kTiny);
  const trainer::PeftFiles files =
      MakeFiles(seed, file_digest.empty() ? base.source_digest() : file_digest);
  v1::CreateVersionRequest request;
  request.set_parent(adapter);
  v1::AdapterVersion& version = *request.mutable_adapter_version();
  version.mutable_source()->set_job(absl::StrCat("tenants/acme/jobs/", seed, "-", adapter.size()));
  version.mutable_source()->set_result(true);
  version.set_base_source_digest(base.source_digest());
  version.set_base_form(base.form());
  version.set_base_model(kTiny);
  version.set_adapter_digest(Sha256Digest(files.adapter_model));
  version.set_size_bytes(
      static_cast<int64_t>(files.adapter_config.size() + files.adapter_model.size()));
  const auto made = registry_.CreateVersion(request);
  CHECK(made.ok()) << made.status();
  registry_.PutVersionFiles(made->name(), {{trainer::kAdapterConfigFile, files.adapter_config},
                                           {trainer::kAdapterModelFile, files.adapter_model}});
  return made->name();
}

v1::GenerateRequest InferenceWorld::Request(const std::string& model,
                                            v1::ModelSelector::Mode mode) {
  v1::GenerateRequest request;
  request.set_parent("tenants/acme");
  request.mutable_model()->set_model(model);
  request.mutable_model()->set_mode(mode);
  request.set_prompt("the cat");
  request.set_max_new_tokens(12);
  return request;
}

v1::ScoreRequest InferenceWorld::ScoreRequest(const std::string& model) {
  v1::ScoreRequest request;
  request.set_parent("tenants/acme");
  request.mutable_model()->set_model(model);
  return request;
}

Answer InferenceWorld::Generate(const v1::GenerateRequest& request, const Caller& caller) {
  Answer answer;
  answer.status = core_->Generate(caller, request, {}, [&](const v1::GenerateResponse& message) {
    answer.messages.push_back(message);
    answer.text += message.text();
    answer.tokens.insert(answer.tokens.end(), message.token_ids().begin(),
                         message.token_ids().end());
    return true;
  });
  return answer;
}

double InferenceWorld::Metric(const std::string& name_and_labels) const {
  for (const absl::string_view line : absl::StrSplit(metrics_.Text(), '\n')) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, name_and_labels + " ")) continue;
    double value = 0;
    CHECK(absl::SimpleAtod(rest, &value)) << line;
    return value;
  }
  LOG(FATAL) << name_and_labels << " is not among:\n" << metrics_.Text();
}

std::string InferenceWorld::BaseFolder(const std::string& name) {
  const auto folder = bases_->Ensure({std::string(TenantOf(name)), name},
                                     BaseModel(name).manifest_digest(), [] { return false; });
  CHECK(folder.ok()) << folder.status();
  return *folder;
}

}  // namespace deltaworks::services
