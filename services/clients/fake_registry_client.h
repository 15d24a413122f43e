// FakeRegistryClient: versions in memory, for tests of the scheduler, inference and dw.
//
// CreateVersion is idempotent by source, like the registry's; what the next new version becomes is
// set by the test: READY (default), REJECTED, or an error. Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_REGISTRY_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_REGISTRY_CLIENT_H_

#include <map>
#include <string>
#include <vector>

#include "services/clients/registry_client.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class FakeRegistryClient final : public RegistryClient {
 public:
  // ---- For the test ----

  // The next `count` calls of CreateVersion fail with `status`, nothing stored.
  void FailCreateVersion(absl::Status status, int count = 1);
  // New versions are refused with `failure` from now on.
  void Reject(const v1::Failure& failure);
  // What DownloadVersion of any version sends: path -> bytes.
  void PutFiles(std::map<std::string, std::string> files);
  // What DownloadVersion of this version sends, instead of the above.
  void PutVersionFiles(const std::string& version, std::map<std::string, std::string> files);
  int64_t download_calls() const;
  // The next `count` streams of DownloadVersion end with Unavailable after so many bytes of a file.
  void CutDownloads(int64_t after_bytes, int count);
  std::vector<v1::AdapterVersion> Versions() const;
  int64_t create_calls() const;

  // ---- RegistryClient ----

  absl::StatusOr<v1::AdapterVersion> CreateVersion(
      const v1::CreateVersionRequest& request) override;
  absl::StatusOr<v1::AdapterVersion> GetVersion(const std::string& name) override;
  absl::StatusOr<v1::Adapter> GetAdapter(const std::string& name) override;
  absl::StatusOr<v1::ListAdaptersResponse> ListAdapters(
      const v1::ListAdaptersRequest& request) override;
  absl::StatusOr<v1::ListVersionsResponse> ListVersions(
      const v1::ListVersionsRequest& request) override;
  absl::StatusOr<v1::Alias> SetAlias(const v1::SetAliasRequest& request) override;
  absl::StatusOr<v1::Alias> GetAlias(const std::string& name) override;
  absl::StatusOr<v1::ListAliasesResponse> ListAliases(
      const v1::ListAliasesRequest& request) override;
  absl::Status DeleteAlias(const v1::DeleteAliasRequest& request) override;
  absl::StatusOr<v1::ListAliasHistoryResponse> ListAliasHistory(
      const v1::ListAliasHistoryRequest& request) override;
  absl::Status DownloadVersion(const v1::DownloadVersionRequest& request,
                               const Sink& sink) override;

 private:
  mutable Mutex mutex_;
  absl::Status failure_status_ ABSL_GUARDED_BY(mutex_);
  int failures_left_ ABSL_GUARDED_BY(mutex_) = 0;
  bool reject_ ABSL_GUARDED_BY(mutex_) = false;
  v1::Failure rejection_ ABSL_GUARDED_BY(mutex_);
  int64_t create_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<v1::AdapterVersion> versions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::Alias> aliases_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<v1::AliasChange>> history_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> files_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::map<std::string, std::string>> version_files_ ABSL_GUARDED_BY(mutex_);
  int64_t download_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t cut_after_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int cuts_left_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_REGISTRY_CLIENT_H_
