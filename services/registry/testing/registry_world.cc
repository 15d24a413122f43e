#include "services/registry/testing/registry_world.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/registry/adapter_manifest.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::services {
namespace {

constexpr char kDataset[] = "the dataset";

}  // namespace

Caller Stranger() { return {"globex"}; }
Caller Owner() { return {kTenant}; }
Caller Platform() { return {kAllTenants}; }

trainer::PeftFiles AdapterParts::Files() const {
  return trainer::SerializePeft(config, tensors, values, "hub/small", base_digest);
}

RegistryWorld::RegistryWorld(const std::string& file)
    : path_(::testing::TempDir() + "/" + file + ".db") {
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
  base_ = AddBase(kBaseName, "small");
  Open();
}

void RegistryWorld::Open() {
  auto tables = RegistryTables::Open(path_, {});
  CHECK(tables.ok()) << tables.status();
  database_ = &(*tables)->database();
  core_ = std::make_unique<RegistryCore>(
      *std::move(tables), store_, clock_, registry_metrics_,
      RegistryCore::Options{.adapter_bytes_max = 1 << 20,
                            .aliases_max = 3,
                            .broken = [this](absl::Status) { broken_ = true; }});
}

void RegistryWorld::Crash() {
  core_.reset();
  Open();
}

void RegistryWorld::RunSql(const std::string& sql) {
  const absl::Status status = database_->RunScript(sql);
  CHECK(status.ok()) << status;
}

v1::BaseModel RegistryWorld::AddBase(const std::string& name, const std::string& seed) {
  const std::string tenant(TenantOf(name));
  const std::string config = trainer::SmallConfig().ToJson();
  store_.AddBlob(tenant, config);
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::BASE_MODEL);
  *manifest.add_files() = DescribeBytes("config.json", config);
  v1::BaseModel base;
  base.set_name(name);
  base.set_state(v1::BaseModel::READY);
  base.set_source_digest(Sha256Digest(seed));
  base.set_form(v1::F32);
  base.set_manifest_digest(store_.AddBlob(tenant, *SerializeManifest(manifest)));
  store_.PutBaseModel(base);
  return base;
}

AdapterParts RegistryWorld::Parts(int seed) const {
  AdapterParts parts;
  parts.config.rank = 2;
  parts.config.target_modules = {"q_proj", "v_proj"};
  const auto targets =
      trainer::ResolveTargets(parts.config, trainer::LlamaModules(trainer::SmallConfig()));
  parts.tensors = trainer::AdapterTensors(*targets);
  parts.values.resize(trainer::TrainableParameters(*targets));
  for (size_t i = 0; i < parts.values.size(); ++i) {
    parts.values[i] = static_cast<float>(seed) + static_cast<float>(i) / 64;
  }
  parts.base_digest = base_.source_digest();
  parts.manifest.set_format_version(1);
  parts.manifest.set_kind(v1::Manifest::ADAPTER);
  parts.manifest.set_base_source_digest(base_.source_digest());
  parts.manifest.set_base_form(base_.form());
  parts.manifest.set_dataset_manifest_digest(Sha256Digest(kDataset));
  parts.manifest.set_numerics_class("cpu-1");
  parts.manifest.set_step(40);
  parts.manifest.set_probe_digest(Sha256Digest("probe"));
  return parts;
}

std::string RegistryWorld::Upload(const AdapterParts& parts) {
  return Upload(parts, parts.Files());
}

std::string RegistryWorld::Upload(AdapterParts parts, const trainer::PeftFiles& files,
                                  const std::function<void(v1::Manifest&)>& change) {
  v1::Manifest& manifest = parts.manifest;
  *manifest.add_files() = DescribeBytes(trainer::kAdapterConfigFile, files.adapter_config);
  *manifest.add_files() = DescribeBytes(trainer::kAdapterModelFile, files.adapter_model);
  manifest.set_adapter_digest(manifest.files(1).digest());
  if (!parts.extra_file_bytes.empty()) {
    *manifest.add_files() = DescribeBytes("extra.bin", parts.extra_file_bytes);
    store_.AddBlob(kTenant, parts.extra_file_bytes);
  }
  store_.AddBlob(kTenant, files.adapter_config);
  store_.AddBlob(kTenant, files.adapter_model);
  if (change) change(manifest);
  return store_.AddBlob(kTenant, manifest.SerializeAsString());
}

v1::CreateVersionRequest RegistryWorld::Request(const std::string& job,
                                                const std::string& manifest) const {
  v1::CreateVersionRequest request;
  request.set_parent(kAdapterName);
  v1::AdapterVersion& version = *request.mutable_adapter_version();
  version.mutable_source()->set_job(absl::StrCat("tenants/acme/jobs/", job));
  version.mutable_source()->set_result(true);
  version.set_manifest_digest(manifest);
  version.set_base_model(kBaseName);
  version.set_dataset("tenants/acme/datasets/poems");
  version.set_dataset_manifest_digest(Sha256Digest(kDataset));
  version.mutable_spec()->mutable_lora()->set_rank(2);
  version.mutable_metrics()->set_loss(0.5);
  version.set_exact(true);
  version.set_build_version("0.1.0");
  return request;
}

absl::StatusOr<v1::AdapterVersion> RegistryWorld::Create(const std::string& job, int seed) {
  return core_->CreateVersion(Platform(), Request(job, Upload(Parts(seed))));
}

absl::StatusOr<v1::AdapterVersion> RegistryWorld::CreateFrom(const std::string& manifest) {
  return core_->CreateVersion(Platform(), Request("job", manifest));
}

}  // namespace deltaworks::services
