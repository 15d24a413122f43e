#include "scheduler/job_archive.h"

#include "glog/logging.h"

namespace deltaworks::scheduler {

void JobArchiveOverlay::Fold(const Event& event) {
  const auto store = [this](const StoredRequest& request) {
    const absl::Status stored = requests_.Store(request);
    CHECK(stored.ok()) << stored;
  };
  if (event.has_job_archived()) {
    jobs_[event.job()].record = std::make_shared<JobRecord>(event.job_archived().record());
    for (const StoredRequest& request : event.job_archived().requests()) store(request);
  } else if (event.has_job_deleted()) {
    jobs_[event.job()].record = nullptr;
    if (event.has_request()) store(event.request());
  }
}

void JobArchiveOverlay::Clear() {
  jobs_.clear();
  requests_.Clear();
}

absl::StatusOr<std::optional<ArchivedJob>> JobArchiveOverlay::FindArchived(
    const std::string& name) {
  const auto found = jobs_.find(name);
  if (found != jobs_.end()) return found->second;
  if (archive_ == nullptr) return std::nullopt;
  return archive_->FindArchived(name);
}

absl::StatusOr<std::optional<StoredRequest>> JobArchiveOverlay::FindArchivedRequest(
    absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) {
  if (const StoredRequest* found = requests_.Find(tenant, rpc, request_id)) return *found;
  if (archive_ == nullptr) return std::nullopt;
  return archive_->FindArchivedRequest(tenant, rpc, request_id);
}

}  // namespace deltaworks::scheduler
