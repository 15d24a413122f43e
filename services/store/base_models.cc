#include "services/store/base_models.h"

#include <prometheus/counter.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/store/metrics.h"
#include "services/store/model_import.h"
#include "services/store/resource_list.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kKind[] = "baseModels";
constexpr char kRpc[] = "ImportBaseModel";

// The part of `path` that is there, without links; empty if nothing of it can be resolved.
std::string RealPath(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  return error ? "" : real.string();
}

absl::Status CheckLocalPath(const std::string& path, const std::vector<std::string>& folders) {
  if (path.empty() || path.front() != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("local_path is ", path.substr(0, 200), ", want an absolute path"));
  }
  // Asked before whether it exists: what lies outside is nobody's business.
  const std::string lexical = std::filesystem::path(path).lexically_normal().string();
  const std::string real = RealPath(path);
  bool inside = false;
  for (const std::string& folder : folders) {
    const std::string prefix = absl::StrCat(RealPath(folder), "/");
    if (prefix == "/") continue;  // The folder is not there.
    const std::string named =
        absl::StrCat(std::filesystem::path(folder).lexically_normal().string(), "/");
    inside = inside || absl::StartsWith(real + "/", prefix) ||
             (real.empty() && absl::StartsWith(lexical, named));
  }
  if (!inside) {
    return absl::PermissionDeniedError(absl::StrCat(
        "local_path is ", path, ", want a path in a folder given to the store as import_folder"));
  }
  if (real.empty()) return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
  return absl::OkStatus();
}

absl::Status CheckUploads(const v1::UploadedFiles& uploads) {
  if (uploads.files_size() < 1 || uploads.files_size() > kManifestFilesMax) {
    return absl::InvalidArgumentError(absl::StrCat("uploaded_files.files is of length ",
                                                   uploads.files_size(), ", want 1..",
                                                   kManifestFilesMax));
  }
  absl::flat_hash_set<std::string> paths;
  for (const v1::ManifestFile& file : uploads.files()) {
    DW_RETURN_IF_ERROR(CheckManifestPath(file.path()));
    DW_RETURN_IF_ERROR(CheckDigest("uploaded_files.files.digest", file.digest()));
    if (!paths.insert(file.path()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("uploaded_files.files has ", file.path(), " twice, want each path once"));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> UploadedDigests(const v1::ImportBaseModelRequest& request) {
  std::vector<std::string> digests;
  for (const v1::ManifestFile& file : request.uploaded_files().files()) {
    digests.push_back(file.digest());
  }
  return digests;
}

std::string DefaultOrigin(const v1::ImportBaseModelRequest& request) {
  if (!request.origin().empty()) return request.origin();
  if (request.has_uploaded_files()) {
    return request.uploaded_files().files_size() == 1 ? request.uploaded_files().files(0).path()
                                                      : request.base_model_id();
  }
  return std::filesystem::path(request.local_path()).filename().string();
}

}  // namespace

BaseModels::BaseModels(Blobs& blobs, StoreMetadata& metadata, const Clock& clock,
                       StoreMetrics& metrics, const Options& options)
    : blobs_(blobs), metadata_(metadata), clock_(clock), metrics_(metrics), options_(options) {}

BaseModels::~BaseModels() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

absl::Status BaseModels::Start() {
  std::error_code error;
  std::filesystem::remove_all(options_.work_folder, error);
  if (error) return ErrnoStatus(error.value(), options_.work_folder, "remove");
  DW_RETURN_IF_ERROR(MakeDirectories(options_.work_folder));
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

bool BaseModels::stopping() {
  MutexLock lock(&mutex_);
  return stopping_;
}

// ---- Requests ----

absl::Status BaseModels::CheckRequest(const v1::ImportBaseModelRequest& request) const {
  DW_RETURN_IF_ERROR(CheckResourceId("base_model_id", request.base_model_id()));
  DW_RETURN_IF_ERROR(CheckText("display_name", request.display_name(), /*size_max=*/256));
  DW_RETURN_IF_ERROR(CheckText("origin", request.origin(), /*size_max=*/512));
  if (!v1::NumberType_IsValid(request.form()) || request.form() == v1::FP8) {
    return absl::InvalidArgumentError(
        absl::StrCat("form is ", request.form() == v1::FP8 ? "FP8" : absl::StrCat(request.form()),
                     ", want F32 or BF16"));
  }
  switch (request.source_case()) {
    case v1::ImportBaseModelRequest::kUploadedFiles:
      return CheckUploads(request.uploaded_files());
    case v1::ImportBaseModelRequest::kLocalPath:
      return CheckLocalPath(request.local_path(), options_.import_folders);
    default:
      return absl::InvalidArgumentError("source is absent, want local_path or uploaded_files");
  }
}

absl::StatusOr<v1::BaseModel> BaseModels::Import(const std::string& tenant,
                                                 const v1::ImportBaseModelRequest& request) {
  DW_ASSIGN_OR_RETURN(v1::BaseModel base_model, FindOrInsert(tenant, request));
  MutexLock lock(&mutex_);
  woken_ = true;
  changed_.SignalAll();
  return base_model;
}

absl::StatusOr<v1::BaseModel> BaseModels::FindOrInsert(const std::string& tenant,
                                                       const v1::ImportBaseModelRequest& request) {
  MutexLock lock(&insert_mutex_);
  DW_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                      metadata_.FindRequest(tenant, kRpc, request));
  if (before.has_value()) return Get(*before);
  DW_RETURN_IF_ERROR(CheckRequest(request));
  DW_ASSIGN_OR_RETURN(const int64_t pending, metadata_.CountPending());
  if (pending >= options_.waiting_max) {
    return absl::ResourceExhaustedError(absl::StrCat(pending, " imports wait, want fewer than ",
                                                     options_.waiting_max,
                                                     " (imports_waiting_max)"));
  }
  return Insert(tenant, request);
}

absl::StatusOr<v1::BaseModel> BaseModels::Insert(const std::string& tenant,
                                                 const v1::ImportBaseModelRequest& request) {
  const absl::Time now = clock_.Now();
  v1::BaseModel base_model;
  base_model.set_name(TenantResourceName(tenant, kKind, request.base_model_id()));
  base_model.set_display_name(request.display_name());
  base_model.set_state(v1::BaseModel::IMPORTING);
  base_model.set_origin(DefaultOrigin(request));
  base_model.set_form(request.form() == v1::F32 ? v1::F32 : v1::BF16);
  *base_model.mutable_create_time() = scheduler::ToProto(now);
  v1::ImportBaseModelRequest resolved = request;
  resolved.set_form(base_model.form());

  ResourceRow row;
  row.name = base_model.name();
  row.message = base_model.SerializeAsString();
  row.detail = resolved.SerializeAsString();
  row.pending = true;
  const std::vector<std::string> sources = UploadedDigests(request);
  absl::Status status = metadata_.InsertResource(tenant, kKind, kRpc, row, sources, request, now);
  if (absl::IsAlreadyExists(status)) {
    // An import that failed does not keep its id.
    const absl::StatusOr<v1::BaseModel> old = Get(base_model.name());
    if (old.ok() && old->state() == v1::BaseModel::FAILED) {
      status = metadata_.UpdateResource(tenant, row, sources, kRpc, &request, now);
    }
  }
  DW_RETURN_IF_ERROR(status);
  return base_model;
}

absl::StatusOr<v1::BaseModel> BaseModels::ParseRow(const ResourceRow& row) {
  v1::BaseModel base_model;
  if (!base_model.ParseFromString(row.message)) {
    return absl::DataLossError(absl::StrCat(row.name, ": its row cannot be read"));
  }
  if (base_model.state() == v1::BaseModel::IMPORTING) {
    MutexLock lock(&mutex_);
    const auto found = progress_.find(row.name);
    if (found != progress_.end()) base_model.set_import_progress(found->second);
  }
  return base_model;
}

absl::StatusOr<v1::BaseModel> BaseModels::Get(const std::string& name) {
  DW_ASSIGN_OR_RETURN(const ResourceRow row, metadata_.GetResource(name));
  return ParseRow(row);
}

absl::StatusOr<v1::ListBaseModelsResponse> BaseModels::List(
    const std::string& tenant, const v1::ListBaseModelsRequest& request) {
  DW_ASSIGN_OR_RETURN(const ResourcePage page, ListResourcePage(metadata_, tenant, kKind, request));
  v1::ListBaseModelsResponse response;
  for (const ResourceRow& row : page.rows) {
    DW_ASSIGN_OR_RETURN(*response.add_base_models(), ParseRow(row));
  }
  response.set_next_page_token(page.next_page_token);
  return response;
}

// ---- Work ----

void BaseModels::SetProgress(const std::string& name, double share) {
  MutexLock lock(&mutex_);
  progress_[name] = share;
}

bool BaseModels::NextPending(ResourceRow& row) {
  const absl::StatusOr<std::vector<ResourceRow>> rows = metadata_.PendingResources(/*max=*/1);
  if (!rows.ok()) LogError("the imports that wait cannot be read", {{"error", rows.status()}});
  if (!rows.ok() || rows->empty()) return false;
  row = rows->front();
  return true;
}

void BaseModels::Run() {
  // Also looks again without being told: the database may have been full or away.
  constexpr absl::Duration kLookAgain = absl::Seconds(30);
  while (!stopping()) {
    ResourceRow row;
    if (NextPending(row)) {
      ImportRow(row);
      continue;
    }
    MutexLock lock(&mutex_);
    if (!stopping_ && !woken_) changed_.WaitWithTimeout(&mutex_, kLookAgain);
    woken_ = false;
  }
}

absl::Status BaseModels::Begin(const std::string& name) {
  DW_ASSIGN_OR_RETURN(const int64_t attempts, metadata_.CountAttempt(name, +1));
  if (attempts <= options_.attempts_max) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("the store ended ", options_.attempts_max,
                                         " times while it imported this; it is not begun again"));
}

absl::Status BaseModels::ImportSource(const ResourceRow& row, v1::BaseModel& base_model) {
  v1::ImportBaseModelRequest request;
  if (!base_model.ParseFromString(row.message) || !request.ParseFromString(row.detail)) {
    return absl::DataLossError(absl::StrCat(row.name, ": its row cannot be read"));
  }
  LogInfo("import begins", {{"name", row.name}, {"request_id", request.request_id()}});
  // The permission may have been taken away meanwhile.
  if (request.has_local_path()) {
    DW_RETURN_IF_ERROR(CheckLocalPath(request.local_path(), options_.import_folders));
  }
  const std::string tenant(TenantOf(row.name));
  const std::string folder = absl::StrCat(options_.work_folder, "/", tenant, ".",
                                          row.name.substr(row.name.rfind('/') + 1));
  const auto progress = [&](double share) {
    SetProgress(row.name, share);
    return stopping() ? absl::CancelledError("the store stops") : absl::OkStatus();
  };
  const absl::Status status =
      ImportToBlobs(blobs_, tenant, row.name, request, folder, progress, base_model);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return status;
}

// What the database did not take is tried again after a while, not at once.
void BaseModels::PauseAfter(const absl::Status& status) {
  LogError("the state of an import cannot be stored", {{"error", status}});
  MutexLock lock(&mutex_);
  if (!stopping_) changed_.WaitWithTimeout(&mutex_, absl::Seconds(5));
}

void BaseModels::ImportRow(const ResourceRow& row) {
  v1::BaseModel base_model;
  absl::Status status = Begin(row.name);
  if (!status.ok() && !absl::IsAborted(status)) return PauseAfter(status);
  SetProgress(row.name, 0);
  if (status.ok()) {
    status = ImportSource(row, base_model);
  } else {
    base_model.ParseFromString(row.message);
  }
  if (stopping() && !status.ok()) {
    // Begins again at the next start; this was no death.
    static_cast<void>(metadata_.CountAttempt(row.name, -1));
    return;
  }

  ResourceRow done = row;
  done.pending = false;
  std::vector<std::string> pins;
  if (status.ok()) {
    base_model.set_state(v1::BaseModel::READY);
    pins.push_back(base_model.manifest_digest());
  } else {
    base_model.set_name(row.name);
    base_model.set_state(v1::BaseModel::FAILED);
    *base_model.mutable_failure() = ImportFailure(status);
  }
  done.message = base_model.SerializeAsString();
  const absl::Status stored = metadata_.UpdateResource(std::string(TenantOf(row.name)), done, pins,
                                                       kRpc, /*request=*/nullptr, clock_.Now());
  {
    MutexLock lock(&mutex_);
    progress_.erase(row.name);
  }
  if (!stored.ok()) {
    static_cast<void>(metadata_.CountAttempt(row.name, -1));
    return PauseAfter(stored);
  }
  (status.ok() ? metrics_.imports_ready : metrics_.imports_failed).Increment();
  if (status.ok()) {
    LogInfo("import is ready", {{"name", row.name}, {"digest", base_model.source_digest()}});
  } else {
    LogError("import failed", {{"name", row.name}, {"error", status}});
  }
}

}  // namespace deltaworks::services
