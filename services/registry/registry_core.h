// RegistryCore: every rule of the registry. Knows no gRPC, thread, sleep or clock of its own.
//
// Versions. CreateVersion is keyed by its source, and in this order: look the key up; check the
// bytes (version_checker.h); pin them in the store under the version's name; commit the row. So a
// crash leaves a pin too many, never one too few, and Reconcile() drops it later. One version is
// made at a time, because it needs a number, and a check needs memory; whatever else is asked is
// answered meanwhile. REJECTED versions have no pin.
//
// Aliases point at READY versions. Each change has a number, which is the etag.
//
// Requests are validated here, tenants included (registry_names.h). Errors are those of
// registry_service.proto; a database that refuses writes is UNAVAILABLE, or RESOURCE_EXHAUSTED
// if its disk is full. If the outcome of a commit is unknown, `broken` is told, and every change is
// refused until the file was opened again.
//
// Thread-safe. Calls wait for the store and the disk.

#ifndef DELTAWORKS_SERVICES_REGISTRY_REGISTRY_CORE_H_
#define DELTAWORKS_SERVICES_REGISTRY_REGISTRY_CORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "services/base/caller.h"
#include "services/base/clock.h"
#include "services/clients/store_client.h"
#include "services/registry/metrics.h"
#include "services/registry/registry_names.h"
#include "services/registry/registry_tables.h"
#include "services/registry/verified_blob_reader.h"
#include "services/registry/version_checker.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class RegistryCore {
 public:
  struct Options {
    // Of adapter_model.safetensors; a larger one is REJECTED.
    int64_t adapter_bytes_max = int64_t{4} << 30;
    // Of one adapter; one more is RESOURCE_EXHAUSTED.
    int64_t aliases_max = 1000;
    // Called once, with the reason. May be null.
    std::function<void(absl::Status)> broken;
  };

  // The references must outlive this.
  RegistryCore(std::unique_ptr<RegistryTables> tables, StoreClient& store, const Clock& clock,
               RegistryMetrics& metrics, Options options);

  absl::StatusOr<v1::AdapterVersion> CreateVersion(const Caller& caller,
                                                   const v1::CreateVersionRequest& request);
  absl::StatusOr<v1::AdapterVersion> GetVersion(const Caller& caller,
                                                const v1::GetVersionRequest& request);
  absl::StatusOr<v1::Adapter> GetAdapter(const Caller& caller,
                                         const v1::GetAdapterRequest& request);
  absl::StatusOr<v1::ListAdaptersResponse> ListAdapters(const Caller& caller,
                                                        const v1::ListAdaptersRequest& request);
  absl::StatusOr<v1::ListVersionsResponse> ListVersions(const Caller& caller,
                                                        const v1::ListVersionsRequest& request);

  absl::StatusOr<v1::Alias> SetAlias(const Caller& caller, const v1::SetAliasRequest& request);
  absl::StatusOr<v1::Alias> GetAlias(const Caller& caller, const v1::GetAliasRequest& request);
  absl::StatusOr<v1::ListAliasesResponse> ListAliases(const Caller& caller,
                                                      const v1::ListAliasesRequest& request);
  absl::Status DeleteAlias(const Caller& caller, const v1::DeleteAliasRequest& request);
  absl::StatusOr<v1::ListAliasHistoryResponse> ListAliasHistory(
      const Caller& caller, const v1::ListAliasHistoryRequest& request);

  // Gives the messages to `sink`, in order, verified before they are given. Ends when it returns
  // false, with Cancelled.
  using DownloadSink = std::function<bool(const v1::DownloadVersionResponse&)>;
  absl::Status DownloadVersion(const Caller& caller, const v1::DownloadVersionRequest& request,
                               const DownloadSink& sink);

  // Compares the store's pins with the versions: makes those that lack, drops those too many. Then
  // forgets old request ids. For once a day; safe at any time.
  absl::Status Reconcile();

 private:
  // Looks at tables only.
  absl::StatusOr<v1::AdapterVersion> Resolve(const VersionId& id, absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::AdapterVersion> ReadyVersion(const VersionId& id, absl::string_view name)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CheckAdapterExists(const AdapterId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The version made before by this request or for this source; nullopt: none.
  absl::StatusOr<std::optional<v1::AdapterVersion>> FindMade(
      const AdapterId& id, const v1::CreateVersionRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::AdapterVersion> Check(const AdapterId& id,
                                           const v1::CreateVersionRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(creation_);
  // Gives it its number and name, and refuses it if the adapter has another base.
  absl::Status GiveName(const AdapterId& id, v1::AdapterVersion& version)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Pin(const v1::AdapterVersion& version);
  absl::Status Insert(const AdapterId& id, const v1::CreateVersionRequest& request,
                      const v1::AdapterVersion& version) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<v1::Alias> SetAliasInTransaction(const AliasId& id, const VersionId& version,
                                                  const v1::SetAliasRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Of the tenant's versions.
  absl::StatusOr<std::vector<v1::Pin>> PinsOf(const std::string& tenant);
  absl::Status MakeLackingPins(const std::string& tenant, const std::vector<v1::Pin>& pins)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status MakeLackingPin(const std::string& name, const std::string& digest);
  absl::Status DropIfStray(const v1::Pin& pin) ABSL_LOCKS_EXCLUDED(creation_, mutex_);

  absl::StatusOr<Transaction> Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Commit(Transaction& transaction) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  StoreClient& store_;
  const Clock& clock_;
  RegistryMetrics& metrics_;
  const Options options_;
  const VerifiedBlobReader reader_;

  // Taken before mutex_ by whoever makes a version or drops a pin.
  Mutex creation_;
  VersionChecker checker_ ABSL_GUARDED_BY(creation_);

  Mutex mutex_;
  const std::unique_ptr<RegistryTables> tables_ ABSL_PT_GUARDED_BY(mutex_);
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_REGISTRY_CORE_H_
