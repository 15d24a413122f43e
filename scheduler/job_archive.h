// JobArchive: jobs that ended some time ago and left the state, so that a million of them cost the
// scheduler nothing. Where the events are stored implements it (EventStore); decisions look at it
// when the state does not know a job or a request id.
//
// Archived jobs never change; they are deleted at most. A name is never used again.

#ifndef DELTAWORKS_SCHEDULER_JOB_ARCHIVE_H_
#define DELTAWORKS_SCHEDULER_JOB_ARCHIVE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/event.pb.h"
#include "scheduler/request_log.h"

namespace deltaworks::scheduler {

struct ArchivedJob {
  // Null: it was deleted.
  std::shared_ptr<const JobRecord> record;
};

// Thread-compatible. Errors: those of the database.
class JobArchive {
 public:
  virtual ~JobArchive() = default;

  // Absent if no job of this name was archived.
  virtual absl::StatusOr<std::optional<ArchivedJob>> FindArchived(const std::string& name) = 0;
  // Of archived jobs, and for some days of deleted ones.
  virtual absl::StatusOr<std::optional<StoredRequest>> FindArchivedRequest(
      absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) = 0;
};

// What events in memory archived and deleted, before an archive: decisions see at once what is not
// committed yet. The archive may be null.
class JobArchiveOverlay final : public JobArchive {
 public:
  explicit JobArchiveOverlay(JobArchive* archive) : archive_(archive) {}

  void Fold(const Event& event);
  // What was folded is in the archive.
  void Clear();

  absl::StatusOr<std::optional<ArchivedJob>> FindArchived(const std::string& name) override;
  absl::StatusOr<std::optional<StoredRequest>> FindArchivedRequest(
      absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) override;

 private:
  JobArchive* const archive_;
  absl::flat_hash_map<std::string, ArchivedJob> jobs_;
  RequestLog requests_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_ARCHIVE_H_
