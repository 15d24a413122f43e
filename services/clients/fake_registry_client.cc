#include "services/clients/fake_registry_client.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// "tenants/t/adapters/a" of ".../versions/3".
std::string AdapterOf(const std::string& version_name) {
  return version_name.substr(0, version_name.find("/versions/"));
}

bool SameSource(const v1::VersionSource& a, const v1::VersionSource& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

void FakeRegistryClient::FailCreateVersion(absl::Status status, int count) {
  MutexLock lock(&mutex_);
  failure_status_ = std::move(status);
  failures_left_ = count;
}

void FakeRegistryClient::Reject(const v1::Failure& failure) {
  MutexLock lock(&mutex_);
  reject_ = true;
  rejection_ = failure;
}

void FakeRegistryClient::PutFiles(std::map<std::string, std::string> files) {
  MutexLock lock(&mutex_);
  files_ = std::move(files);
}

void FakeRegistryClient::PutVersionFiles(const std::string& version,
                                         std::map<std::string, std::string> files) {
  MutexLock lock(&mutex_);
  version_files_[version] = std::move(files);
}

int64_t FakeRegistryClient::download_calls() const {
  MutexLock lock(&mutex_);
  return download_calls_;
}

void FakeRegistryClient::CutDownloads(int64_t after_bytes, int count) {
  MutexLock lock(&mutex_);
  cut_after_bytes_ = after_bytes;
  cuts_left_ = count;
}

std::vector<v1::AdapterVersion> FakeRegistryClient::Versions() const {
  MutexLock lock(&mutex_);
  return versions_;
}

int64_t FakeRegistryClient::create_calls() const {
  MutexLock lock(&mutex_);
  return create_calls_;
}

absl::StatusOr<v1::AdapterVersion> FakeRegistryClient::CreateVersion(
    const v1::CreateVersionRequest& request) {
  MutexLock lock(&mutex_);
  ++create_calls_;
  if (failures_left_ > 0) {
    --failures_left_;
    return failure_status_;
  }
  int64_t number = 1;
  for (const v1::AdapterVersion& version : versions_) {
    if (SameSource(version.source(), request.adapter_version().source())) {
      if (version.manifest_digest() == request.adapter_version().manifest_digest()) return version;
      return absl::AlreadyExistsError("the source has another manifest");
    }
    if (AdapterOf(version.name()) == request.parent()) ++number;
  }
  v1::AdapterVersion version = request.adapter_version();
  version.set_name(absl::StrCat(request.parent(), "/versions/", number));
  version.set_state(reject_ ? v1::AdapterVersion::REJECTED : v1::AdapterVersion::READY);
  if (reject_) *version.mutable_failure() = rejection_;
  versions_.push_back(version);
  return version;
}

absl::StatusOr<v1::AdapterVersion> FakeRegistryClient::GetVersion(const std::string& name) {
  MutexLock lock(&mutex_);
  const auto alias = aliases_.find(name);
  const std::string wanted = alias == aliases_.end() ? name : alias->second.version();
  for (auto version = versions_.rbegin(); version != versions_.rend(); ++version) {
    const bool newest =
        AdapterOf(version->name()) == wanted && version->state() == v1::AdapterVersion::READY;
    if (version->name() == wanted || newest) return *version;
  }
  return NoSuchResource(name);
}

absl::StatusOr<v1::Adapter> FakeRegistryClient::GetAdapter(const std::string& name) {
  MutexLock lock(&mutex_);
  v1::Adapter adapter;
  for (const v1::AdapterVersion& version : versions_) {
    if (AdapterOf(version.name()) != name) continue;
    adapter.set_name(name);
    adapter.set_base_source_digest(version.base_source_digest());
    adapter.set_version_count(adapter.version_count() + 1);
    if (version.state() == v1::AdapterVersion::READY) {
      adapter.set_latest_version(adapter.version_count());
    }
  }
  if (adapter.name().empty()) return NoSuchResource(name);
  return adapter;
}

absl::StatusOr<v1::ListAdaptersResponse> FakeRegistryClient::ListAdapters(
    const v1::ListAdaptersRequest& request) {
  std::map<std::string, bool> names;
  for (const v1::AdapterVersion& version : Versions()) names[AdapterOf(version.name())] = true;
  v1::ListAdaptersResponse response;
  for (const auto& [name, unused] : names) {
    if (!absl::StartsWith(name, absl::StrCat(request.parent(), "/"))) continue;
    DW_ASSIGN_OR_RETURN(*response.add_adapters(), GetAdapter(name));
  }
  return response;
}

absl::StatusOr<v1::ListVersionsResponse> FakeRegistryClient::ListVersions(
    const v1::ListVersionsRequest& request) {
  v1::ListVersionsResponse response;
  const std::vector<v1::AdapterVersion> versions = Versions();
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    if (AdapterOf(version->name()) == request.parent()) *response.add_versions() = *version;
  }
  if (response.versions_size() == 0) return NoSuchResource(request.parent());
  return response;
}

absl::StatusOr<v1::Alias> FakeRegistryClient::SetAlias(const v1::SetAliasRequest& request) {
  DW_RETURN_IF_ERROR(GetVersion(request.alias().version()).status());
  MutexLock lock(&mutex_);
  v1::Alias& alias = aliases_[request.alias().name()];
  if (!request.alias().etag().empty() && request.alias().etag() != alias.etag()) {
    return absl::AbortedError(absl::StrCat("alias points at ", alias.version()));
  }
  v1::AliasChange change;
  change.set_old_version(alias.version());
  change.set_new_version(request.alias().version());
  change.set_comment(request.comment());
  auto& history = history_[request.alias().name()];
  history.insert(history.begin(), change);
  alias = request.alias();
  alias.set_etag(Sha256Digest(absl::StrCat(alias.version(), history.size())));
  return alias;
}

absl::StatusOr<v1::Alias> FakeRegistryClient::GetAlias(const std::string& name) {
  MutexLock lock(&mutex_);
  const auto found = aliases_.find(name);
  if (found == aliases_.end()) return NoSuchResource(name);
  return found->second;
}

absl::StatusOr<v1::ListAliasesResponse> FakeRegistryClient::ListAliases(
    const v1::ListAliasesRequest& request) {
  MutexLock lock(&mutex_);
  v1::ListAliasesResponse response;
  for (const auto& [name, alias] : aliases_) {
    if (absl::StartsWith(name, absl::StrCat(request.parent(), "/aliases/"))) {
      *response.add_aliases() = alias;
    }
  }
  return response;
}

absl::Status FakeRegistryClient::DeleteAlias(const v1::DeleteAliasRequest& request) {
  MutexLock lock(&mutex_);
  return aliases_.erase(request.name()) > 0 ? absl::OkStatus() : NoSuchResource(request.name());
}

absl::StatusOr<v1::ListAliasHistoryResponse> FakeRegistryClient::ListAliasHistory(
    const v1::ListAliasHistoryRequest& request) {
  MutexLock lock(&mutex_);
  const auto found = history_.find(request.parent());
  if (found == history_.end()) return NoSuchResource(request.parent());
  v1::ListAliasHistoryResponse response;
  for (const v1::AliasChange& change : found->second) *response.add_changes() = change;
  return response;
}

absl::Status FakeRegistryClient::DownloadVersion(const v1::DownloadVersionRequest& request,
                                                 const Sink& sink) {
  DW_ASSIGN_OR_RETURN(const v1::AdapterVersion version, GetVersion(request.name()));
  std::map<std::string, std::string> files;
  bool cut = false;
  size_t size_max = std::string::npos;
  {
    MutexLock lock(&mutex_);
    ++download_calls_;
    cut = cuts_left_ > 0;
    if (cut) {
      --cuts_left_;
      size_max = static_cast<size_t>(cut_after_bytes_);
    }
    const auto own = version_files_.find(version.name());
    files = own == version_files_.end() ? files_ : own->second;
  }
  for (const auto& [path, bytes] : files) {
    if (!request.path().empty() && request.path() != path) continue;
    v1::DownloadVersionResponse response;
    response.set_path(path);
    response.set_size_bytes(static_cast<int64_t>(bytes.size()));
    response.set_digest(Sha256Digest(bytes));
    response.set_data(bytes.substr(static_cast<size_t>(request.offset()), size_max));
    DW_RETURN_IF_ERROR(sink(response));
    if (cut) return absl::UnavailableError("the stream was cut");
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
