#include "services/base/request_log.h"

#include <google/protobuf/message.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "scheduler/message_difference.h"
#include "services/base/resource_names.h"
#include "services/base/sqlite.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;

constexpr absl::Duration kKept = absl::Hours(24 * 7);

std::string RequestId(const Message& request) {
  const FieldDescriptor* field = request.GetDescriptor()->FindFieldByName("request_id");
  CHECK(field != nullptr) << request.GetTypeName() << " has no request_id";
  return request.GetReflection()->GetString(request, field);
}

}  // namespace

absl::StatusOr<std::optional<RequestRecord>> FindRequest(Database& database,
                                                         absl::string_view tenant,
                                                         absl::string_view rpc,
                                                         const Message& request) {
  const std::string id = RequestId(request);
  DW_RETURN_IF_ERROR(CheckRequestId(id));
  if (id.empty()) return std::nullopt;
  DW_ASSIGN_OR_RETURN(Rows rows, database.Query("SELECT request, resource FROM requests "
                                                "WHERE tenant = ? AND rpc = ? AND request_id = ?",
                                                {tenant, rpc, id}));
  if (!rows.Next()) {
    DW_RETURN_IF_ERROR(rows.status());
    return std::nullopt;
  }
  std::unique_ptr<Message> before(request.New());
  if (!before->ParseFromString(rows.Text(0))) {
    return absl::DataLossError(absl::StrCat(
        database.path(), ": the request stored under request_id ", id, " cannot be read"));
  }
  const std::string field = scheduler::FirstDifference(*before, request);
  if (!field.empty()) {
    return absl::AlreadyExistsError(absl::StrCat("request_id ", id,
                                                 " was used for another request: ", field,
                                                 " differs, want the same or a new request_id"));
  }
  return RequestRecord{rows.Text(1)};
}

absl::Status RecordRequest(Database& database, absl::string_view tenant, absl::string_view rpc,
                           const Message& request, absl::string_view resource, absl::Time now) {
  const std::string id = RequestId(request);
  if (id.empty()) return absl::OkStatus();
  const std::string bytes = request.SerializeAsString();
  return database.Run(
      "INSERT INTO requests (tenant, rpc, request_id, request, resource, create_time_us, gone) "
      "VALUES (?, ?, ?, ?, ?, ?, ?)",
      {tenant, rpc, id, SqlBlob{bytes}, resource, absl::ToUnixMicros(now), resource.empty()});
}

absl::Status MarkResourceGone(Database& database, absl::string_view resource) {
  return database.Run("UPDATE requests SET gone = 1 WHERE resource = ?", {resource});
}

absl::StatusOr<int64_t> PruneRequests(Database& database, absl::Time now, int64_t count_max) {
  DW_RETURN_IF_ERROR(database.Run(
      "DELETE FROM requests WHERE (tenant, rpc, request_id) IN (SELECT tenant, rpc, request_id "
      "FROM requests WHERE gone = 1 AND create_time_us < ? LIMIT ?)",
      {absl::ToUnixMicros(now - kKept), count_max}));
  return database.changes();
}

}  // namespace deltaworks::services
