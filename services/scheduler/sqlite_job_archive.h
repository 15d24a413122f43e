// SqliteJobArchive: the part of a SqliteEventStore that keeps jobs which left the state.
//
//   archived_jobs(name, ended_ns, record, deleted_ns)   record null: deleted; the name is kept
//   archived_terms(tenant, field, value, created_ns, name)
//                        one row for each thing a list may ask for (JobTerms), and one for all
//   archived_requests(tenant, rpc, request_id, job, stored)
//
// Works on its owner's database, writes within its owner's transactions. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_SQLITE_JOB_ARCHIVE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_SQLITE_JOB_ARCHIVE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/sqlite.h"
#include "services/scheduler/event_store.h"

namespace deltaworks::services {

class SqliteJobArchive {
 public:
  // A migration step that makes the tables.
  static const char* const kStep;

  explicit SqliteJobArchive(Database& database) : database_(database) {}

  // A job is archived or deleted.
  absl::Status Add(const scheduler::Event& archived);
  absl::Status Delete(const scheduler::Event& deleted);
  // Requests about jobs that were deleted before `time`, of some of them.
  absl::Status DropRequests(absl::Time time);

  absl::StatusOr<std::optional<scheduler::ArchivedJob>> Find(const std::string& name);
  absl::StatusOr<std::optional<scheduler::StoredRequest>> FindRequest(absl::string_view tenant,
                                                                      absl::string_view rpc,
                                                                      absl::string_view request_id);
  absl::StatusOr<std::vector<std::shared_ptr<const scheduler::JobRecord>>> List(
      const ArchiveQuery& query);
  absl::StatusOr<std::vector<std::string>> EndedBefore(absl::Time time, int64_t count_max);

 private:
  absl::Status AddRequest(const scheduler::StoredRequest& request);

  Database& database_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_SQLITE_JOB_ARCHIVE_H_
