#include "services/clients/version_download.h"

#include "absl/strings/str_cat.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

// The file on its way.
class Incoming {
 public:
  Incoming(const v1::AdapterVersion& version, const std::string& path,
           const VersionDownloadOptions& options, const VersionFileSink& sink)
      : version_(version),
        path_(path),
        subject_(absl::StrCat(version.name(), "/", path)),
        options_(options),
        sink_(sink) {}

  absl::Status Take(const v1::DownloadVersionResponse& piece) {
    DW_RETURN_IF_ERROR(Wanted());
    if (!piece.path().empty()) DW_RETURN_IF_ERROR(Announce(piece));
    if (digest_.empty()) return absl::DataLossError(subject_ + ": bytes came before its name");
    if (static_cast<int64_t>(piece.data().size()) > size_bytes_ - done_) {
      return absl::DataLossError(
          absl::StrCat(subject_, " has more than the ", size_bytes_, " bytes that were announced"));
    }
    done_ += static_cast<int64_t>(piece.data().size());
    sha256_.Update(piece.data());
    return sink_(piece.data(), size_bytes_);
  }

  absl::Status Verify() {
    const std::string got = sha256_.Finish();
    if (done_ == size_bytes_ && got == digest_) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(subject_, " is ", done_, " bytes, ", got, ", want ",
                                            size_bytes_, " bytes, ", digest_));
  }

  absl::Status Wanted() const {
    if (!options_.cancelled()) return absl::OkStatus();
    return absl::CancelledError(subject_ + ": no longer wanted");
  }

  int64_t done() const { return done_; }

 private:
  absl::Status Announce(const v1::DownloadVersionResponse& piece) {
    if (piece.path() != path_ || piece.size_bytes() < 0 || !IsSha256Digest(piece.digest()) ||
        (!digest_.empty() && piece.digest() != digest_)) {
      return absl::DataLossError(absl::StrCat(subject_, ": got ", piece.path(), " of ",
                                              piece.size_bytes(), " bytes and digest ",
                                              piece.digest(), " instead"));
    }
    if (path_ == trainer::kAdapterModelFile && !version_.adapter_digest().empty() &&
        piece.digest() != version_.adapter_digest()) {
      return absl::DataLossError(absl::StrCat(subject_, " is ", piece.digest(), ", want ",
                                              version_.adapter_digest(), " by the version"));
    }
    if (piece.size_bytes() > options_.bytes_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          subject_, " has ", piece.size_bytes(), " bytes, want at most ", options_.bytes_max));
    }
    digest_ = piece.digest();
    size_bytes_ = piece.size_bytes();
    return absl::OkStatus();
  }

  const v1::AdapterVersion& version_;
  const std::string& path_;
  const std::string subject_;
  const VersionDownloadOptions& options_;
  const VersionFileSink& sink_;
  Sha256Stream sha256_;
  std::string digest_;  // Empty: not announced yet.
  int64_t size_bytes_ = 0;
  int64_t done_ = 0;
};

}  // namespace

absl::Status DownloadVersionFile(RegistryClient& registry, const v1::AdapterVersion& version,
                                 const std::string& path, const VersionDownloadOptions& options,
                                 const VersionFileSink& sink) {
  Incoming incoming(version, path, options, sink);
  RetryState retry(options.retry);
  v1::DownloadVersionRequest request;
  request.set_name(version.name());
  request.set_path(path);
  while (true) {
    const int64_t before = incoming.done();
    request.set_offset(before);
    absl::Status refused;  // By us: final, whatever its code.
    const absl::Status status =
        registry.DownloadVersion(request, [&](const v1::DownloadVersionResponse& piece) {
          refused = incoming.Take(piece);
          return refused;
        });
    DW_RETURN_IF_ERROR(refused);
    if (status.ok()) return incoming.Verify();
    if (!absl::IsUnavailable(status)) return status;
    DW_RETURN_IF_ERROR(incoming.Wanted());
    if (incoming.done() > before) retry.Progressed();
    if (!retry.Pause()) return status;
  }
}

}  // namespace deltaworks::services
