// RequestLog: which requests were carried out, so that a repeated one is not carried out again.
//
// For services whose rows are in SQLite. The owner of the database puts kRequestLogSchema in its
// migrations and calls, inside the transaction that carries the request out:
//
//   DW_ASSIGN_OR_RETURN(auto before, FindRequest(db, tenant, "CreateDataset", *request));
//   if (before.has_value()) return GetDataset(before->resource);   // as it is now
//   ... insert the row ...
//   DW_RETURN_IF_ERROR(RecordRequest(db, tenant, "CreateDataset", *request, name, now));
//   DW_RETURN_IF_ERROR(transaction.Commit());
//
// A request has a string field request_id; an empty one gives no protection and is not kept. Ids
// are unique by (tenant, rpc), kept as long as the resource and at least 7 days.
//
// Thread-compatible, like the database.

#ifndef DELTAWORKS_SERVICES_BASE_REQUEST_LOG_H_
#define DELTAWORKS_SERVICES_BASE_REQUEST_LOG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace google::protobuf {
class Message;
}

namespace deltaworks::services {

class Database;

inline constexpr char kRequestLogSchema[] = R"sql(
  CREATE TABLE requests (
    tenant TEXT NOT NULL,
    rpc TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request BLOB NOT NULL,            -- serialised, to compare the next one with
    resource TEXT NOT NULL,           -- what it made or changed; empty: nothing that lives on
    create_time_us INTEGER NOT NULL,
    gone INTEGER NOT NULL,            -- the resource does not exist any more
    PRIMARY KEY (tenant, rpc, request_id)
  ) WITHOUT ROWID;
  CREATE INDEX requests_by_resource ON requests (resource);
  CREATE INDEX requests_by_age ON requests (gone, create_time_us);
)sql";

struct RequestRecord {
  std::string resource;
};

// nullopt: new, carry it out. A record: carried out before with an equal request.
//   InvalidArgument  request_id is malformed
//   AlreadyExists    the id was used for another request; names the first field that differs
absl::StatusOr<std::optional<RequestRecord>> FindRequest(Database& database,
                                                         absl::string_view tenant,
                                                         absl::string_view rpc,
                                                         const google::protobuf::Message& request);

// Remembers it. An empty `resource` is kept for 7 days.
absl::Status RecordRequest(Database& database, absl::string_view tenant, absl::string_view rpc,
                           const google::protobuf::Message& request, absl::string_view resource,
                           absl::Time now);

// The resource is deleted: its requests may be forgotten when they are 7 days old.
absl::Status MarkResourceGone(Database& database, absl::string_view resource);

// Forgets what may be forgotten, at most `count_max` rows. Returns how many.
absl::StatusOr<int64_t> PruneRequests(Database& database, absl::Time now, int64_t count_max);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_REQUEST_LOG_H_
