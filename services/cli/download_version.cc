#include "services/cli/download_version.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// What a PEFT folder has.
constexpr const char* kFiles[] = {"adapter_config.json", "adapter_model.safetensors"};

// One file as it comes in.
class IncomingFile {
 public:
  IncomingFile(std::string name, AtomicFile& file, const DownloadProgress& progress)
      : name_(std::move(name)), file_(file), progress_(progress) {}

  int64_t done() const { return done_; }

  absl::Status Take(const v1::DownloadVersionResponse& piece) {
    if (!piece.path().empty()) {
      if (piece.path() != name_ || piece.size_bytes() < 0) {
        return absl::DataLossError(absl::StrCat("the registry sent ", piece.path(), " of ",
                                                piece.size_bytes(), " bytes, want ", name_));
      }
      if (size_ >= 0 && piece.digest() != digest_) {
        return absl::DataLossError(
            absl::StrCat(name_, " was ", digest_, " and is ", piece.digest(), " after a cut"));
      }
      size_ = piece.size_bytes();
      digest_ = piece.digest();
    }
    done_ += static_cast<int64_t>(piece.data().size());
    if (done_ > size_) {
      return absl::DataLossError(
          absl::StrCat(name_, " has ", done_, " bytes and more, want ", size_));
    }
    sha256_.Update(piece.data());
    if (progress_ != nullptr) progress_(name_, done_, size_);
    return file_.Append(piece.data());
  }

  absl::Status Check() {
    const std::string got = sha256_.Finish();
    if (size_ >= 0 && done_ == size_ && got == digest_) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(name_, " has ", done_, " bytes and digest ", got,
                                            ", want ", size_, " bytes and ", digest_));
  }

 private:
  const std::string name_;
  AtomicFile& file_;
  const DownloadProgress& progress_;
  Sha256Stream sha256_;
  int64_t done_ = 0;
  int64_t size_ = -1;  // Not announced yet.
  std::string digest_;
};

absl::Status DownloadOne(RegistryClient& registry, const std::string& version,
                         const std::string& name, const std::string& folder,
                         const RetryPolicy& policy, const DownloadProgress& progress) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<AtomicFile> file,
                      AtomicFile::Create(absl::StrCat(folder, "/", name)));
  IncomingFile incoming(name, *file, progress);
  RetryState retry(policy);
  v1::DownloadVersionRequest request;
  request.set_name(version);
  request.set_path(name);
  while (true) {
    request.set_offset(incoming.done());
    absl::Status refused;  // By us: final, whatever its code.
    const absl::Status status =
        registry.DownloadVersion(request, [&](const v1::DownloadVersionResponse& piece) {
          refused = incoming.Take(piece);
          if (refused.ok()) retry.Progressed();
          return refused;
        });
    DW_RETURN_IF_ERROR(refused);
    if (status.ok()) break;
    if (!absl::IsUnavailable(status) || !retry.Pause()) return status;
  }
  DW_RETURN_IF_ERROR(incoming.Check());
  return file->Commit();
}

}  // namespace

absl::Status DownloadVersion(RegistryClient& registry, const std::string& version,
                             const std::string& folder, const RetryPolicy& policy,
                             const DownloadProgress& progress) {
  for (const char* name : kFiles) {
    DW_RETURN_IF_ERROR(DownloadOne(registry, version, name, folder, policy, progress));
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
