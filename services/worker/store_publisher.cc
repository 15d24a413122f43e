#include "services/worker/store_publisher.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/resource_names.h"
#include "services/clients/blob_transfer.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

// The core tries again by itself, with what is newest then.
TransferOptions OptionsOf(const std::atomic<bool>& stopping) {
  TransferOptions options = CancelledBy([&stopping] { return stopping.load(); });
  options.retry.total_max = absl::Seconds(5);
  return options;
}

}  // namespace

absl::Status PublishArtifact(StoreClient& store, const std::string& job, const Artifact& artifact,
                             const TransferOptions& options) {
  const std::string tenant(TenantOf(job));
  for (const Artifact::File& file : artifact.files) {
    DW_RETURN_IF_ERROR(UploadBytes(store, tenant, file.entry, file.bytes, options));
  }
  DW_RETURN_IF_ERROR(UploadBytes(store, tenant, "manifest", artifact.manifest, options).status());
  v1::CreatePinRequest request;
  request.mutable_pin()->set_owner(job);
  request.mutable_pin()->set_digest(artifact.manifest_digest);
  return store.CreatePin(request).status();
}

absl::StatusOr<Publisher::AdapterBytes> ReadBackAdapter(StoreClient& store, const std::string& job,
                                                        const Artifact& artifact,
                                                        const TransferOptions& options) {
  const BlobAccess access = {std::string(TenantOf(job)), job};
  Publisher::AdapterBytes bytes;
  for (const auto& [path, to] : {std::pair(trainer::kAdapterModelFile, &bytes.adapter_model),
                                 std::pair(trainer::kAdapterConfigFile, &bytes.adapter_config)}) {
    const Artifact::File* file = artifact.Find(path);
    if (file == nullptr) {
      return absl::InternalError(absl::StrCat("the result has no ", path));
    }
    DW_ASSIGN_OR_RETURN(
        *to, DownloadBytes(store, access, file->entry.digest(), file->entry.size_bytes(), options));
  }
  return bytes;
}

void StorePublisher::Publish(const std::string& job, std::shared_ptr<const Artifact> artifact,
                             Done done) {
  worker_.Post([this, job, artifact = std::move(artifact), done = std::move(done)]() mutable {
    absl::Status status = PublishArtifact(store_, job, *artifact, OptionsOf(stopping_));
    loop_.Post([done = std::move(done), status = std::move(status)]() mutable {
      done(std::move(status));
    });
  });
}

void StorePublisher::ReadBack(const std::string& job, std::shared_ptr<const Artifact> artifact,
                              ReadDone done) {
  worker_.Post([this, job, artifact = std::move(artifact), done = std::move(done)]() mutable {
    absl::StatusOr<AdapterBytes> bytes =
        ReadBackAdapter(store_, job, *artifact, OptionsOf(stopping_));
    loop_.Post(
        [done = std::move(done), bytes = std::move(bytes)]() mutable { done(std::move(bytes)); });
  });
}

}  // namespace deltaworks::services
