#include "services/inference/adapter_download.h"

#include "absl/strings/str_cat.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kConfigPath[] = "adapter_config.json";
constexpr char kModelPath[] = "adapter_model.safetensors";

// One file on its way.
class Download {
 public:
  Download(const std::string& version, const std::string& path, const DownloadOptions& options)
      : subject_(absl::StrCat(version, "/", path)), path_(path), options_(options) {}

  absl::Status Take(const v1::DownloadVersionResponse& piece) {
    if (options_.cancelled()) return absl::CancelledError(subject_ + ": no longer wanted");
    if (!piece.path().empty()) DW_RETURN_IF_ERROR(Announce(piece));
    if (digest_.empty()) return absl::DataLossError(subject_ + ": bytes came before its name");
    data_ += piece.data();
    if (static_cast<int64_t>(data_.size()) <= size_bytes_) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(subject_, " has more than the ", size_bytes_, " bytes that were announced"));
  }

  absl::Status Verify() const {
    const std::string got = Sha256Digest(data_);
    if (static_cast<int64_t>(data_.size()) == size_bytes_ && got == digest_) {
      return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat(subject_, " is ", data_.size(), " bytes, ", got,
                                            ", want ", size_bytes_, " bytes, ", digest_));
  }

  int64_t offset() const { return static_cast<int64_t>(data_.size()); }
  const std::string& digest() const { return digest_; }
  const std::string& subject() const { return subject_; }
  std::string data() && { return std::move(data_); }

 private:
  absl::Status Announce(const v1::DownloadVersionResponse& piece) {
    if (piece.path() != path_ || !IsSha256Digest(piece.digest()) ||
        (!digest_.empty() && piece.digest() != digest_)) {
      return absl::DataLossError(absl::StrCat(subject_, ": got ", piece.path(), " of digest ",
                                              piece.digest(), " instead"));
    }
    if (piece.size_bytes() < 0 || piece.size_bytes() > options_.bytes_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          subject_, " has ", piece.size_bytes(), " bytes, want at most ", options_.bytes_max));
    }
    digest_ = piece.digest();
    size_bytes_ = piece.size_bytes();
    return absl::OkStatus();
  }

  const std::string subject_;
  const std::string path_;
  const DownloadOptions& options_;
  std::string digest_;
  int64_t size_bytes_ = 0;
  std::string data_;
};

absl::Status Fetch(RegistryClient& registry, const std::string& version, const std::string& path,
                   const DownloadOptions& options, Download& download) {
  RetryState retry(options.retry);
  v1::DownloadVersionRequest request;
  request.set_name(version);
  request.set_path(path);
  while (true) {
    const int64_t before = download.offset();
    request.set_offset(before);
    const absl::Status status = registry.DownloadVersion(
        request, [&](const v1::DownloadVersionResponse& piece) { return download.Take(piece); });
    if (!absl::IsUnavailable(status)) return status;
    if (options.cancelled()) return absl::CancelledError(download.subject());
    if (download.offset() > before) retry.Progressed();
    if (!retry.Pause()) return status;
  }
}

}  // namespace

absl::StatusOr<trainer::PeftFiles> DownloadPeft(RegistryClient& registry,
                                                const v1::AdapterVersion& version,
                                                const DownloadOptions& options) {
  Download config(version.name(), kConfigPath, options), model(version.name(), kModelPath, options);
  DW_RETURN_IF_ERROR(Fetch(registry, version.name(), kConfigPath, options, config));
  DW_RETURN_IF_ERROR(config.Verify());
  DW_RETURN_IF_ERROR(Fetch(registry, version.name(), kModelPath, options, model));
  DW_RETURN_IF_ERROR(model.Verify());
  if (!version.adapter_digest().empty() && model.digest() != version.adapter_digest()) {
    return absl::DataLossError(absl::StrCat(model.subject(), " is ", model.digest(), ", want ",
                                            version.adapter_digest(), " by the version"));
  }
  trainer::PeftFiles files;
  files.adapter_config = std::move(config).data();
  files.adapter_model = std::move(model).data();
  return files;
}

}  // namespace deltaworks::services
