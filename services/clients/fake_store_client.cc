#include "services/clients/fake_store_client.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

template <typename Map>
auto FindByName(const Map& map, const std::string& name)
    -> absl::StatusOr<typename Map::mapped_type> {
  const auto found = map.find(name);
  if (found == map.end()) return NoSuchResource(name);
  return found->second;
}

}  // namespace

// ---- For the test ----

void FakeStoreClient::Fail(const std::string& rpc, absl::Status status, int count) {
  MutexLock lock(&mutex_);
  failures_[rpc] = {std::move(status), count};
}

int64_t FakeStoreClient::CallCount(const std::string& rpc) const {
  MutexLock lock(&mutex_);
  const auto found = calls_.find(rpc);
  return found == calls_.end() ? 0 : found->second;
}

std::string FakeStoreClient::AddBlob(const std::string& tenant, absl::string_view data) {
  MutexLock lock(&mutex_);
  const std::string digest = Sha256Digest(data);
  blobs_[digest] = std::string(data);
  readers_.emplace(tenant, digest);
  return digest;
}

bool FakeStoreClient::HasBlob(const std::string& digest) const {
  MutexLock lock(&mutex_);
  return blobs_.count(digest) > 0;
}

void FakeStoreClient::RemoveBlob(const std::string& digest) {
  MutexLock lock(&mutex_);
  blobs_.erase(digest);
}

void FakeStoreClient::FlipByte(const std::string& digest, int64_t offset) {
  MutexLock lock(&mutex_);
  blobs_.at(digest).at(static_cast<size_t>(offset)) ^= 1;
}

std::set<std::pair<std::string, std::string>> FakeStoreClient::Pins() const {
  MutexLock lock(&mutex_);
  return pins_;
}

std::set<std::pair<std::string, std::string>> FakeStoreClient::Reads() const {
  MutexLock lock(&mutex_);
  return reads_;
}

void FakeStoreClient::PutDataset(const v1::Dataset& dataset) {
  MutexLock lock(&mutex_);
  datasets_[dataset.name()] = dataset;
}

void FakeStoreClient::PutBaseModel(const v1::BaseModel& base_model) {
  MutexLock lock(&mutex_);
  base_models_[base_model.name()] = base_model;
}

void FakeStoreClient::SetReport(const v1::DatasetReport& report) {
  MutexLock lock(&mutex_);
  report_ = report;
}

void FakeStoreClient::SetPreview(const v1::PreviewDatasetResponse& preview) {
  MutexLock lock(&mutex_);
  preview_ = preview;
}

void FakeStoreClient::SetValidator(Validator validator) {
  MutexLock lock(&mutex_);
  validator_ = std::move(validator);
}

absl::Status FakeStoreClient::Begin(const std::string& rpc) {
  ++calls_[rpc];
  const auto found = failures_.find(rpc);
  if (found == failures_.end()) return absl::OkStatus();
  const absl::Status status = found->second.first;
  if (--found->second.second <= 0) failures_.erase(found);
  return status;
}

bool FakeStoreClient::MayRead(absl::string_view parent, const std::string& digest) const {
  return readers_.count({std::string(TenantOf(parent)), digest}) > 0 && blobs_.count(digest) > 0;
}

// ---- Blobs ----

absl::StatusOr<v1::Upload> FakeStoreClient::CreateUpload(const v1::CreateUploadRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("CreateUpload"));
  const std::string tenant(TenantOf(request.parent()));
  const std::string name = TenantResourceName(tenant, "uploads", request.digest().substr(7, 40));
  PendingUpload& pending = uploads_[name];
  pending.tenant = tenant;
  pending.digest = request.digest();
  pending.size = request.size_bytes();
  return FinishUpload(name);
}

absl::StatusOr<v1::Upload> FakeStoreClient::FinishUpload(const std::string& name) {
  const auto found = uploads_.find(name);
  if (found == uploads_.end()) return NoSuchResource(name);
  const PendingUpload& pending = found->second;
  v1::Upload upload;
  upload.set_name(name);
  upload.set_digest(pending.digest);
  upload.set_size_bytes(pending.size);
  upload.set_committed_size_bytes(static_cast<int64_t>(pending.data.size()));
  upload.set_done(MayRead(TenantName(pending.tenant), pending.digest));
  return upload;
}

absl::StatusOr<v1::Upload> FakeStoreClient::GetUpload(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("GetUpload"));
  return FinishUpload(name);
}

absl::StatusOr<v1::Upload> FakeStoreClient::WriteUpload(const std::string& name, int64_t offset,
                                                        const Source& source) {
  MutexLock lock(&mutex_);
  const absl::Status failure = Begin("WriteUpload");
  DW_RETURN_IF_ERROR(FinishUpload(name).status());
  PendingUpload& pending = uploads_[name];
  if (offset != static_cast<int64_t>(pending.data.size())) {
    return absl::OutOfRangeError(
        absl::StrCat("offset is ", offset, ", want ", pending.data.size()));
  }
  std::string piece;
  do {
    DW_RETURN_IF_ERROR(source(static_cast<int64_t>(pending.data.size()), piece));
    pending.data += piece;
    DW_RETURN_IF_ERROR(failure);
  } while (!piece.empty());
  if (static_cast<int64_t>(pending.data.size()) == pending.size) {
    if (Sha256Digest(pending.data) != pending.digest) {
      uploads_.erase(name);
      return absl::DataLossError("digest differs");
    }
    blobs_[pending.digest] = pending.data;
    readers_.emplace(pending.tenant, pending.digest);
  }
  return FinishUpload(name);
}

absl::StatusOr<v1::FindMissingBlobsResponse> FakeStoreClient::FindMissingBlobs(
    const v1::FindMissingBlobsRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("FindMissingBlobs"));
  v1::FindMissingBlobsResponse response;
  for (const std::string& digest : request.digests()) {
    if (!MayRead(request.parent(), digest)) response.add_missing_digests(digest);
  }
  return response;
}

absl::Status FakeStoreClient::ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) {
  absl::Status failure;
  std::string data;
  {
    MutexLock lock(&mutex_);
    failure = Begin("ReadBlob");
    if (!MayRead(request.parent(), request.digest())) return NoSuchResource(request.digest());
    data = blobs_[request.digest()];
    reads_.emplace(request.reference(), request.digest());
  }
  if (request.offset() > static_cast<int64_t>(data.size())) {
    return absl::OutOfRangeError("offset beyond the end");
  }
  absl::string_view rest = absl::string_view(data).substr(static_cast<size_t>(request.offset()));
  if (request.length_bytes() > 0) rest = rest.substr(0, request.length_bytes());
  while (!rest.empty()) {
    DW_RETURN_IF_ERROR(sink(rest.substr(0, kPieceBytes)));
    DW_RETURN_IF_ERROR(failure);
    rest.remove_prefix(std::min(kPieceBytes, rest.size()));
  }
  return failure;
}

absl::StatusOr<v1::Manifest> FakeStoreClient::GetManifest(const v1::GetManifestRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("GetManifest"));
  if (!MayRead(request.parent(), request.digest())) return NoSuchResource(request.digest());
  return ParseManifest(blobs_[request.digest()], request.digest());
}

absl::StatusOr<v1::ReportCorruptBlobResponse> FakeStoreClient::ReportCorruptBlob(
    const v1::ReportCorruptBlobRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("ReportCorruptBlob"));
  if (!MayRead(request.parent(), request.digest())) return NoSuchResource(request.digest());
  v1::ReportCorruptBlobResponse response;
  response.set_confirmed(Sha256Digest(blobs_[request.digest()]) != request.digest());
  if (response.confirmed()) blobs_.erase(request.digest());
  return response;
}

// ---- Pins ----

absl::StatusOr<v1::Pin> FakeStoreClient::CreatePin(const v1::CreatePinRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("CreatePin"));
  const v1::Pin& pin = request.pin();
  if (!MayRead(pin.owner(), pin.digest())) return NoSuchResource(pin.digest());
  if (const auto manifest = ParseManifest(blobs_[pin.digest()], ""); manifest.ok()) {
    for (const v1::ManifestFile& file : manifest->files()) {
      if (!MayRead(pin.owner(), file.digest())) return NoSuchResource(file.digest());
    }
  }
  pins_.emplace(pin.owner(), pin.digest());
  return pin;
}

absl::Status FakeStoreClient::DeletePin(const v1::DeletePinRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("DeletePin"));
  pins_.erase({request.owner(), request.digest()});
  return absl::OkStatus();
}

absl::StatusOr<v1::ListPinsResponse> FakeStoreClient::ListPins(const v1::ListPinsRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("ListPins"));
  v1::ListPinsResponse response;
  for (const auto& [owner, digest] : pins_) {
    if (!absl::StartsWith(owner, absl::StrCat(request.parent(), "/")) ||
        !absl::StartsWith(owner, request.owner_prefix())) {
      continue;
    }
    v1::Pin& pin = *response.add_pins();
    pin.set_owner(owner);
    pin.set_digest(digest);
  }
  return response;
}

// ---- Datasets and bases ----

absl::StatusOr<v1::Dataset> FakeStoreClient::CreateDataset(
    const v1::CreateDatasetRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("CreateDataset"));
  const std::string& digest = request.dataset().blob_digest();
  if (!MayRead(request.parent(), digest)) return NoSuchResource(digest);
  v1::Dataset dataset = request.dataset();
  dataset.set_name(absl::StrCat(request.parent(), "/datasets/", request.dataset_id()));
  dataset.set_size_bytes(static_cast<int64_t>(blobs_[digest].size()));
  if (!datasets_.emplace(dataset.name(), dataset).second) {
    return absl::AlreadyExistsError(absl::StrCat(dataset.name(), " exists"));
  }
  return dataset;
}

absl::StatusOr<v1::Dataset> FakeStoreClient::GetDataset(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("GetDataset"));
  return FindByName(datasets_, name);
}

absl::StatusOr<v1::ListDatasetsResponse> FakeStoreClient::ListDatasets(
    const v1::ListDatasetsRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("ListDatasets"));
  v1::ListDatasetsResponse response;
  for (const auto& [name, dataset] : datasets_) {
    if (absl::StartsWith(name, absl::StrCat(request.parent(), "/"))) {
      *response.add_datasets() = dataset;
    }
  }
  return response;
}

absl::StatusOr<v1::DatasetReport> FakeStoreClient::CheckDataset(
    const v1::CheckDatasetRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("CheckDataset"));
  if (request.has_dataset()) DW_RETURN_IF_ERROR(FindByName(datasets_, request.dataset()).status());
  if (!report_) return absl::UnimplementedError("the fake store has no tokenizer");
  return *report_;
}

absl::StatusOr<v1::PreviewDatasetResponse> FakeStoreClient::PreviewDataset(
    const v1::PreviewDatasetRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("PreviewDataset"));
  if (request.has_dataset()) DW_RETURN_IF_ERROR(FindByName(datasets_, request.dataset()).status());
  if (!preview_) return absl::UnimplementedError("the fake store has no tokenizer");
  return *preview_;
}

absl::StatusOr<v1::BaseModel> FakeStoreClient::ImportBaseModel(
    const v1::ImportBaseModelRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("ImportBaseModel"));
  v1::BaseModel base_model;
  base_model.set_name(absl::StrCat(request.parent(), "/baseModels/", request.base_model_id()));
  base_model.set_display_name(request.display_name());
  base_model.set_state(v1::BaseModel::IMPORTING);
  if (!base_models_.emplace(base_model.name(), base_model).second) {
    return absl::AlreadyExistsError(absl::StrCat(base_model.name(), " exists"));
  }
  return base_model;
}

absl::StatusOr<v1::BaseModel> FakeStoreClient::GetBaseModel(const std::string& name) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("GetBaseModel"));
  return FindByName(base_models_, name);
}

absl::StatusOr<v1::ListBaseModelsResponse> FakeStoreClient::ListBaseModels(
    const v1::ListBaseModelsRequest& request) {
  MutexLock lock(&mutex_);
  DW_RETURN_IF_ERROR(Begin("ListBaseModels"));
  v1::ListBaseModelsResponse response;
  for (const auto& [name, base_model] : base_models_) {
    if (absl::StartsWith(name, absl::StrCat(request.parent(), "/"))) {
      *response.add_base_models() = base_model;
    }
  }
  return response;
}

absl::StatusOr<v1::ValidateTrainingResponse> FakeStoreClient::ValidateTraining(
    const v1::ValidateTrainingRequest& request) {
  Validator validator;
  {
    MutexLock lock(&mutex_);
    DW_RETURN_IF_ERROR(Begin("ValidateTraining"));
    validator = validator_;
  }
  if (validator == nullptr) return absl::UnavailableError("the fake store has no validator");
  return validator(request);
}

}  // namespace deltaworks::services
