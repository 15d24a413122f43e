// RegistryCore's dealings with bytes: downloads, and pins compared with versions.

#include <prometheus/counter.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "services/base/json_escape.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/request_log.h"
#include "services/base/resource_names.h"
#include "services/registry/adapter_manifest.h"
#include "services/registry/core_internal.h"
#include "services/registry/registry_core.h"
#include "trainer/base/status_macros.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kMessageBytes = int64_t{1} << 20;
constexpr int64_t kReconcilePage = 1000;
constexpr int64_t kPruneMax = 100'000;

absl::Status Gone() { return absl::CancelledError("the reader went away"); }

// The bytes are in a READY version and pinned, so whatever lacks is lost.
absl::Status Damaged(const std::string& version, const absl::Status& status) {
  if (!absl::IsNotFound(status) && !absl::IsDataLoss(status)) return status;
  return absl::DataLossError(absl::StrCat(version, ": ", status.message()));
}

// Sends one file from `offset` on.
class FileSender {
 public:
  FileSender(const VerifiedBlobReader& reader, std::string tenant, const v1::ManifestFile& file,
             const RegistryCore::DownloadSink& sink)
      : reader_(reader), tenant_(std::move(tenant)), file_(file), sink_(sink) {
    message_.set_path(file.path());
    message_.set_size_bytes(file.size_bytes());
    message_.set_digest(file.digest());
  }

  absl::Status Send(int64_t offset) {
    if (offset == file_.size_bytes()) return sink_(message_) ? absl::OkStatus() : Gone();
    for (int64_t chunk = offset / kChunkBytes; chunk < file_.chunk_digests_size(); ++chunk) {
      const int64_t begin = chunk * kChunkBytes;
      const int64_t size = std::min(kChunkBytes, file_.size_bytes() - begin);
      DW_ASSIGN_OR_RETURN(const std::string bytes,
                          reader_.ReadChunk(tenant_, file_.digest(), begin, size,
                                            file_.chunk_digests(static_cast<int>(chunk))));
      DW_RETURN_IF_ERROR(
          SendBytes(absl::string_view(bytes).substr(std::max<int64_t>(offset - begin, 0))));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status SendBytes(absl::string_view bytes) {
    while (!bytes.empty()) {
      const absl::string_view part = bytes.substr(0, kMessageBytes);
      message_.set_data(part.data(), part.size());
      if (!sink_(message_)) return Gone();
      message_.Clear();
      bytes.remove_prefix(part.size());
    }
    return absl::OkStatus();
  }

  const VerifiedBlobReader& reader_;
  const std::string tenant_;
  const v1::ManifestFile& file_;
  const RegistryCore::DownloadSink& sink_;
  v1::DownloadVersionResponse message_;
};

absl::Status CheckRange(const v1::DownloadVersionRequest& request) {
  const std::string& path = request.path();
  if (!path.empty() && path != trainer::kAdapterConfigFile && path != trainer::kAdapterModelFile) {
    return absl::NotFoundError(absl::StrCat("path is ", JsonQuote(path), ", want ",
                                            trainer::kAdapterConfigFile, " or ",
                                            trainer::kAdapterModelFile));
  }
  if (request.offset() == 0 || (request.offset() > 0 && !path.empty())) return absl::OkStatus();
  if (request.offset() < 0) {
    return absl::OutOfRangeError(absl::StrCat("offset is ", request.offset(), ", want >= 0"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("offset is ", request.offset(), ", want 0 without path"));
}

}  // namespace

absl::StatusOr<v1::AdapterVersion> RegistryCore::ReadyVersion(const VersionId& id,
                                                              absl::string_view name) {
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(v1::AdapterVersion version, Resolve(id, name));
  if (version.state() == v1::AdapterVersion::READY) return version;
  return absl::FailedPreconditionError(absl::StrCat(version.name(), " is ",
                                                    v1::AdapterVersion::State_Name(version.state()),
                                                    ", want READY: ", version.failure().message()));
}

absl::Status RegistryCore::DownloadVersion(const Caller& caller,
                                           const v1::DownloadVersionRequest& request,
                                           const DownloadSink& sink) {
  DW_ASSIGN_OR_RETURN(const VersionId id, ParseVersionReference(caller, request.name()));
  DW_ASSIGN_OR_RETURN(const v1::AdapterVersion version, ReadyVersion(id, request.name()));
  DW_RETURN_IF_ERROR(CheckRange(request));
  const std::string& tenant = id.adapter.tenant;
  const auto blob = reader_.Read(tenant, version.manifest_digest(), kManifestBytesMax);
  if (!blob.ok()) return Damaged(version.name(), blob.status());
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(blob->bytes, version.name()));
  const DownloadSink counted = [&](const v1::DownloadVersionResponse& message) {
    metrics_.download_bytes.Increment(static_cast<double>(message.data().size()));
    return sink(message);
  };
  for (const char* const path : {trainer::kAdapterConfigFile, trainer::kAdapterModelFile}) {
    if (!request.path().empty() && request.path() != path) continue;
    const v1::ManifestFile* const file = FindFile(manifest, path);
    CHECK(file != nullptr) << version.name() << " became READY without " << path;
    if (request.offset() > file->size_bytes()) {
      return absl::OutOfRangeError(absl::StrCat("offset is ", request.offset(), ", want at most ",
                                                file->size_bytes(), ", the size of ", path));
    }
    DW_RETURN_IF_ERROR(Damaged(version.name(),
                               FileSender(reader_, tenant, *file, counted).Send(request.offset())));
  }
  return absl::OkStatus();
}

// ---- Pins ----

absl::Status RegistryCore::Reconcile() {
  std::vector<std::string> tenants;
  {
    MutexLock lock(&mutex_);
    DW_ASSIGN_OR_RETURN(tenants, tables_->Tenants());
  }
  for (const std::string& tenant : tenants) {
    DW_ASSIGN_OR_RETURN(const std::vector<v1::Pin> pins, PinsOf(tenant));
    DW_RETURN_IF_ERROR(MakeLackingPins(tenant, pins));
    for (const v1::Pin& pin : pins) DW_RETURN_IF_ERROR(DropIfStray(pin));
  }
  MutexLock lock(&mutex_);
  DW_ASSIGN_OR_RETURN(Transaction transaction, Begin());
  const auto pruned = PruneRequests(tables_->database(), clock_.Now(), kPruneMax);
  if (!pruned.ok()) return DatabaseError(pruned.status());
  return Commit(transaction);
}

absl::StatusOr<std::vector<v1::Pin>> RegistryCore::PinsOf(const std::string& tenant) {
  v1::ListPinsRequest request;
  request.set_parent(TenantName(tenant));
  request.set_owner_prefix(absl::StrCat(TenantName(tenant), "/adapters/"));
  request.set_page_size(kReconcilePage);
  std::vector<v1::Pin> pins;
  while (true) {
    const auto page = store_.ListPins(request);
    if (!page.ok()) return FromStore(page.status());
    pins.insert(pins.end(), page->pins().begin(), page->pins().end());
    if (page->next_page_token().empty()) return pins;
    request.set_page_token(page->next_page_token());
  }
}

absl::Status RegistryCore::MakeLackingPins(const std::string& tenant,
                                           const std::vector<v1::Pin>& pins) {
  absl::flat_hash_set<std::pair<std::string, std::string>> there;
  for (const v1::Pin& pin : pins) there.emplace(pin.owner(), pin.digest());
  std::vector<RegistryTables::ReadyVersion> versions;
  do {
    const std::string adapter = versions.empty() ? "" : versions.back().id.adapter;
    const int64_t number = versions.empty() ? 0 : versions.back().number;
    {
      MutexLock lock(&mutex_);
      DW_ASSIGN_OR_RETURN(versions, tables_->ListReady(tenant, adapter, number, kReconcilePage));
    }
    for (const auto& version : versions) {
      const std::string name = version.id.VersionName(version.number);
      if (!there.contains({name, version.manifest_digest})) {
        DW_RETURN_IF_ERROR(MakeLackingPin(name, version.manifest_digest));
      }
    }
  } while (!versions.empty());
  return absl::OkStatus();
}

absl::Status RegistryCore::MakeLackingPin(const std::string& name, const std::string& digest) {
  v1::CreatePinRequest request;
  request.mutable_pin()->set_owner(name);
  request.mutable_pin()->set_digest(digest);
  const absl::Status status = store_.CreatePin(request).status();
  if (absl::IsNotFound(status)) {
    // The others still need theirs.
    LogError("a READY version has lost its bytes", {{"name", name}, {"error", status}});
    return absl::OkStatus();
  }
  if (!status.ok()) return FromStore(status);
  metrics_.pins_made.Increment();
  LogWarning("a pin was lacking", {{"name", name}, {"digest", digest}});
  return absl::OkStatus();
}

absl::Status RegistryCore::DropIfStray(const v1::Pin& pin) {
  // Nobody makes a version meanwhile, so a pin without a row has no row on its way.
  MutexLock creating(&creation_);
  {
    MutexLock lock(&mutex_);
    if (broken_) return absl::UnavailableError("registry database: want a restart of the registry");
    const auto id = ParseVersionName({kAllTenants}, "owner", pin.owner());
    if (id.ok()) {
      DW_ASSIGN_OR_RETURN(const auto version, tables_->FindVersion(id->adapter, id->number));
      const bool wanted = version.has_value() && version->state() == v1::AdapterVersion::READY &&
                          version->manifest_digest() == pin.digest();
      if (wanted) return absl::OkStatus();
    }
  }
  v1::DeletePinRequest request;
  request.set_owner(pin.owner());
  request.set_digest(pin.digest());
  if (absl::Status status = store_.DeletePin(request); !status.ok()) return FromStore(status);
  metrics_.pins_dropped.Increment();
  LogInfo("a pin without a version was dropped", {{"name", pin.owner()}, {"digest", pin.digest()}});
  return absl::OkStatus();
}

}  // namespace deltaworks::services
