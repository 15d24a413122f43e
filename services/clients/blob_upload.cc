// The upload half of blob_transfer.h.

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/retry.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

// The stream broke, or the store wants another offset than we thought, or an earlier stream of ours
// has not ended there yet: ask how far it is and go on.
bool MayGoOn(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsOutOfRange(status) || absl::IsAborted(status);
}

}  // namespace

absl::Status UploadBytes(StoreClient& store, const std::string& tenant,
                         const v1::ManifestFile& file, absl::string_view data,
                         const TransferOptions& options) {
  v1::CreateUploadRequest create;
  create.set_parent(TenantName(tenant));
  create.set_digest(file.digest());
  create.set_size_bytes(file.size_bytes());
  DW_ASSIGN_OR_RETURN(v1::Upload upload, store.CreateUpload(create));
  absl::Status progress_status;
  const StoreClient::Source source = [&](int64_t offset, std::string& piece) {
    if (options.progress != nullptr) {
      progress_status = options.progress(offset, file.size_bytes());
      DW_RETURN_IF_ERROR(progress_status);
    }
    piece = std::string(data.substr(static_cast<size_t>(offset), kPieceBytes));
    return absl::OkStatus();
  };
  RetryState retry(options.retry);
  while (!upload.done()) {
    const int64_t before = upload.committed_size_bytes();
    auto written = store.WriteUpload(upload.name(), before, source);
    DW_RETURN_IF_ERROR(progress_status);
    absl::Status status = written.status();
    if (status.ok()) {
      upload = *std::move(written);
    } else if (MayGoOn(status)) {
      DW_ASSIGN_OR_RETURN(upload, store.GetUpload(upload.name()));
    } else {
      return status;
    }
    if (upload.done()) break;
    if (upload.committed_size_bytes() > before) {
      retry.Progressed();
    } else {
      if (status.ok()) status = absl::UnavailableError("the store took no bytes");
      if (!retry.Pause()) return status;
    }
  }
  return options.progress == nullptr ? absl::OkStatus()
                                     : options.progress(file.size_bytes(), file.size_bytes());
}

absl::StatusOr<v1::ManifestFile> UploadFile(StoreClient& store, const std::string& tenant,
                                            absl::string_view manifest_path,
                                            const std::string& file_path,
                                            const TransferOptions& options) {
  DW_ASSIGN_OR_RETURN(const auto mapped, MappedFile::Open(file_path));
  const v1::ManifestFile file = DescribeBytes(manifest_path, mapped->bytes());
  const absl::Status status = UploadBytes(store, tenant, file, mapped->bytes(), options);
  if (absl::IsDataLoss(status)) {
    return absl::DataLossError(
        absl::StrCat(file_path, ": changed while it was uploaded: ", status.message()));
  }
  DW_RETURN_IF_ERROR(status);
  return file;
}

absl::StatusOr<v1::ManifestFile> UploadBytes(StoreClient& store, const std::string& tenant,
                                             absl::string_view manifest_path,
                                             absl::string_view data,
                                             const TransferOptions& options) {
  const v1::ManifestFile file = DescribeBytes(manifest_path, data);
  DW_RETURN_IF_ERROR(UploadBytes(store, tenant, file, data, options));
  return file;
}

absl::StatusOr<std::string> UploadManifest(StoreClient& store, const std::string& tenant,
                                           const v1::Manifest& manifest,
                                           const TransferOptions& options) {
  DW_ASSIGN_OR_RETURN(const std::string bytes, SerializeManifest(manifest));
  DW_ASSIGN_OR_RETURN(const v1::ManifestFile file,
                      UploadBytes(store, tenant, "manifest", bytes, options));
  return file.digest();
}

}  // namespace deltaworks::services
