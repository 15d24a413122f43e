#include "services/registry/version_checker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/base/json_escape.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/registry/adapter_manifest.h"
#include "trainer/base/status_macros.h"
#include "trainer/base/utf8_prefix.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/config.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

constexpr size_t kMissingNamedMax = 100;
constexpr int kFindMissingMax = 10'000;
constexpr size_t kFailureBytesMax = 2'000;
constexpr size_t kBasesRemembered = 64;
constexpr int64_t kConfigBytesMax = int64_t{1} << 20;
constexpr char kBaseConfigPath[] = "config.json";

constexpr char kRefused[] = "VERSION_REFUSED";
constexpr char kBaseInvalid[] = "BASE_MODEL_INVALID";
constexpr char kManifestField[] = "adapter_version.manifest_digest";
constexpr char kBaseField[] = "adapter_version.base_model";

// As FromStore, for blobs that a READY base needs: that they are not there is the store's trouble.
absl::Status BaseUnavailable(const std::string& base, const absl::Status& status) {
  return absl::UnavailableError(
      absl::StrCat(base, " is READY, but its bytes cannot be read: ", status.message()));
}

}  // namespace

absl::Status MissingBlobs(absl::Span<const std::string> digests) {
  return absl::FailedPreconditionError(
      absl::StrCat(kMissingBlobs, absl::StrJoin(digests.subspan(0, kMissingNamedMax), ", ")));
}

void Reject(absl::string_view code, v1::Failure::Fault fault, absl::string_view field,
            absl::string_view message, v1::AdapterVersion& version) {
  version.set_state(v1::AdapterVersion::REJECTED);
  v1::Failure& failure = *version.mutable_failure();
  failure.set_code(std::string(code));
  failure.set_message(std::string(Utf8Prefix(message, kFailureBytesMax)));
  failure.set_field(std::string(field));
  failure.set_fault(fault);
}

// One check. Its steps return an error when no verdict can be reached; a refusal is written to the
// version and ends the steps with Aborted.
class VersionCheck {
 public:
  VersionCheck(VersionChecker& checker, const std::string& tenant, v1::AdapterVersion& version)
      : checker_(checker), tenant_(tenant), version_(version) {}

  absl::Status Run() {
    version_.set_state(v1::AdapterVersion::READY);
    version_.clear_failure();
    const absl::Status status = RunSteps();
    return version_.state() == v1::AdapterVersion::REJECTED ? absl::OkStatus() : status;
  }

 private:
  absl::Status RunSteps() {
    DW_RETURN_IF_ERROR(ReadManifest());
    DW_RETURN_IF_ERROR(CheckNothingIsMissing());
    DW_RETURN_IF_ERROR(CheckLineage());
    DW_RETURN_IF_ERROR(CheckBase());
    DW_RETURN_IF_ERROR(ReadFiles());
    return CheckAdapter();
  }

  absl::Status Refuse(absl::string_view message, absl::string_view code = kRefused,
                      absl::string_view field = kManifestField) {
    Reject(code, v1::Failure::PLATFORM, field, message, version_);
    return absl::AbortedError(message);
  }
  // InvalidArgument refuses; other errors are passed on.
  absl::Status RefuseInvalid(const absl::Status& status) {
    return absl::IsInvalidArgument(status) ? Refuse(status.message()) : status;
  }

  absl::Status ReadManifest() {
    const std::string& digest = version_.manifest_digest();
    const auto blob = checker_.reader_.Read(tenant_, digest, kManifestBytesMax);
    if (absl::IsNotFound(blob.status()) || absl::IsDataLoss(blob.status())) {
      return MissingBlobs({digest});
    }
    if (absl::IsResourceExhausted(blob.status())) return Refuse(blob.status().message());
    DW_RETURN_IF_ERROR(blob.status());
    absl::StatusOr<v1::Manifest> manifest = ParseManifest(blob->bytes, digest);
    if (!manifest.ok()) return RefuseInvalid(manifest.status());
    manifest_ = *std::move(manifest);
    DW_RETURN_IF_ERROR(RefuseInvalid(CheckAdapterManifest(manifest_)));
    CopyFromManifest();
    return absl::OkStatus();
  }

  void CopyFromManifest() {
    version_.set_adapter_digest(FindFile(manifest_, trainer::kAdapterModelFile)->digest());
    version_.set_base_form(manifest_.base_form());
    version_.set_numerics_class(manifest_.numerics_class());
    version_.set_probe_digest(manifest_.probe_digest());
    int64_t size = 0;
    for (const v1::ManifestFile& file : manifest_.files()) {
      // Saturates: no store has that much, so another check refuses it.
      size = file.size_bytes() > INT64_MAX - size ? INT64_MAX : size + file.size_bytes();
    }
    version_.set_size_bytes(size);
  }

  absl::Status CheckNothingIsMissing() {
    // The manifest too: the answer keeps what is there for a day, and so until it is pinned.
    std::vector<std::string> digests = {version_.manifest_digest()};
    for (const v1::ManifestFile& file : manifest_.files()) digests.push_back(file.digest());
    DW_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                        checker_.FindMissing(tenant_, digests));
    return missing.empty() ? absl::OkStatus() : MissingBlobs(missing);
  }

  // What the request says of the job against what the worker wrote into the manifest.
  absl::Status CheckLineage() {
    const v1::VersionSource& source = version_.source();
    const bool adapter = manifest_.kind() == v1::Manifest::ADAPTER;
    if (source.has_result() && !adapter) {
      return Refuse("manifest: kind is CHECKPOINT, want ADAPTER for a job's result");
    }
    if (source.has_checkpoint_step() && manifest_.step() != source.checkpoint_step()) {
      return Refuse(absl::StrCat("manifest: step is ", manifest_.step(), ", want ",
                                 source.checkpoint_step(), ", the checkpoint's"));
    }
    const std::string& dataset = version_.dataset_manifest_digest();
    if (!dataset.empty() && manifest_.dataset_manifest_digest() != dataset) {
      return Refuse(absl::StrCat("manifest: dataset_manifest_digest is ",
                                 JsonQuote(manifest_.dataset_manifest_digest()), ", want ", dataset,
                                 ", the job's"));
    }
    version_.set_dataset_manifest_digest(manifest_.dataset_manifest_digest());
    const std::string stated = version_.base_source_digest();
    version_.set_base_source_digest(manifest_.base_source_digest());
    if (stated.empty() || stated == manifest_.base_source_digest()) return absl::OkStatus();
    return Refuse(absl::StrCat("manifest: base_source_digest is ", manifest_.base_source_digest(),
                               ", want ", stated, ", the job's"));
  }

  absl::Status CheckBase() {
    const std::string& name = version_.base_model();
    const auto base = checker_.store_.GetBaseModel(name);
    if (absl::IsNotFound(base.status())) {
      return Refuse(absl::StrCat(name, " does not exist"), kBaseInvalid, kBaseField);
    }
    if (!base.ok()) return FromStore(base.status());
    if (base->state() == v1::BaseModel::FAILED) {
      return Refuse(absl::StrCat(name, " is FAILED, want READY"), kBaseInvalid, kBaseField);
    }
    if (base->state() != v1::BaseModel::READY) {
      return absl::UnavailableError(absl::StrCat(
          name, " is ", v1::BaseModel::State_Name(base->state()), ", want READY: repeat"));
    }
    if (base->source_digest() != manifest_.base_source_digest()) {
      return Refuse(absl::StrCat("manifest: base_source_digest is ", manifest_.base_source_digest(),
                                 ", want ", base->source_digest(), ", that of ", name));
    }
    if (base->form() != manifest_.base_form()) {
      return Refuse(absl::StrCat("manifest: base_form is ",
                                 v1::NumberType_Name(manifest_.base_form()), ", want ",
                                 v1::NumberType_Name(base->form()), ", that of ", name));
    }
    const auto modules = checker_.ModulesOf(tenant_, *base);
    if (absl::IsInvalidArgument(modules.status())) {
      return Refuse(modules.status().message(), kBaseInvalid, kBaseField);
    }
    DW_RETURN_IF_ERROR(modules.status());
    modules_ = *modules;
    return absl::OkStatus();
  }

  absl::Status ReadFiles() {
    std::vector<std::string> damaged;
    for (const v1::ManifestFile& file : manifest_.files()) {
      const absl::Status status = ReadFile(file);
      if (absl::IsNotFound(status) || absl::IsDataLoss(status)) {
        damaged.push_back(file.digest());
      } else {
        DW_RETURN_IF_ERROR(status);
      }
    }
    return damaged.empty() ? absl::OkStatus() : MissingBlobs(damaged);
  }

  absl::Status ReadFile(const v1::ManifestFile& file) {
    const bool is_config = file.path() == trainer::kAdapterConfigFile;
    const bool is_model = file.path() == trainer::kAdapterModelFile;
    const int64_t size_max = is_config ? kConfigBytesMax : checker_.adapter_bytes_max_;
    auto blob = is_config || is_model ? checker_.reader_.Read(tenant_, file.digest(), size_max)
                                      : checker_.reader_.Verify(tenant_, file.digest());
    if (absl::IsResourceExhausted(blob.status())) {
      return Refuse(absl::StrCat(file.path(), ": ", blob.status().message()));
    }
    DW_RETURN_IF_ERROR(blob.status());
    if (blob->file.size_bytes() != file.size_bytes()) {
      return Refuse(absl::StrCat("manifest: ", JsonQuote(file.path()), ": size_bytes is ",
                                 file.size_bytes(), ", want ", blob->file.size_bytes()));
    }
    for (int i = 0; i < file.chunk_digests_size(); ++i) {
      if (file.chunk_digests(i) == blob->file.chunk_digests(i)) continue;
      return Refuse(absl::StrCat("manifest: ", JsonQuote(file.path()), ": chunk_digests[", i,
                                 "] is ", file.chunk_digests(i), ", want ",
                                 blob->file.chunk_digests(i)));
    }
    if (is_config) adapter_config_ = std::move(blob->bytes);
    if (is_model) adapter_model_ = std::move(blob->bytes);
    return absl::OkStatus();
  }

  absl::Status CheckAdapter() {
    const auto adapter = trainer::ParsePeft(adapter_model_, adapter_config_, *modules_);
    if (!adapter.ok()) return RefuseInvalid(adapter.status());
    if (adapter->base_digest != manifest_.base_source_digest()) {
      return Refuse(absl::StrCat(trainer::kAdapterModelFile, ": it is bound to base ",
                                 JsonQuote(adapter->base_digest), ", want ",
                                 manifest_.base_source_digest()));
    }
    const int64_t parameters = trainer::TrainableParameters(adapter->targets);
    const int64_t stated = version_.trainable_parameters();
    version_.set_trainable_parameters(parameters);
    if (stated == 0 || stated == parameters) return absl::OkStatus();
    return Refuse(absl::StrCat(trainer::kAdapterModelFile, ": has ", parameters,
                               " parameters, want ", stated, ", the job's"));
  }

  VersionChecker& checker_;
  const std::string& tenant_;
  v1::AdapterVersion& version_;
  v1::Manifest manifest_;
  const std::vector<trainer::LinearModule>* modules_ = nullptr;
  std::string adapter_config_;
  std::string adapter_model_;
};

absl::StatusOr<v1::AdapterVersion> VersionChecker::Check(const std::string& tenant,
                                                         const v1::AdapterVersion& version) {
  v1::AdapterVersion checked = version;
  DW_RETURN_IF_ERROR(VersionCheck(*this, tenant, checked).Run());
  return checked;
}

absl::StatusOr<std::vector<std::string>> VersionChecker::FindMissing(
    const std::string& tenant, const std::vector<std::string>& digests) {
  std::vector<std::string> missing;
  for (size_t begin = 0; begin < digests.size(); begin += kFindMissingMax) {
    v1::FindMissingBlobsRequest request;
    request.set_parent(TenantName(tenant));
    const size_t end = std::min(digests.size(), begin + kFindMissingMax);
    for (size_t i = begin; i < end; ++i) request.add_digests(digests[i]);
    const auto answer = store_.FindMissingBlobs(request);
    if (!answer.ok()) return FromStore(answer.status());
    missing.insert(missing.end(), answer->missing_digests().begin(),
                   answer->missing_digests().end());
  }
  return missing;
}

absl::StatusOr<const VersionChecker::Modules*> VersionChecker::ModulesOf(
    const std::string& tenant, const v1::BaseModel& base) {
  const auto found = modules_.find(base.manifest_digest());
  if (found != modules_.end()) return &found->second;
  const auto manifest_blob = reader_.Read(tenant, base.manifest_digest(), kManifestBytesMax);
  if (!manifest_blob.ok()) return BaseUnavailable(base.name(), manifest_blob.status());
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest,
                      ParseManifest(manifest_blob->bytes, base.name()));
  const v1::ManifestFile* const file = FindFile(manifest, kBaseConfigPath);
  if (file == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(base.name(), ": its manifest has no ", kBaseConfigPath));
  }
  const auto config_blob = reader_.Read(tenant, file->digest(), kConfigBytesMax);
  if (!config_blob.ok()) return BaseUnavailable(base.name(), config_blob.status());
  DW_ASSIGN_OR_RETURN(const trainer::ModelConfig config,
                      trainer::ModelConfig::Parse(config_blob->bytes));
  if (modules_.size() >= kBasesRemembered) modules_.clear();
  return &modules_.insert_or_assign(base.manifest_digest(), trainer::LlamaModules(config))
              .first->second;
}

}  // namespace deltaworks::services
