// RequestLog: which request ids were used, for what, so that a repeated request acts once.
//
// Unique by (tenant, rpc, request_id). The stored request is compared field by field with the new
// one. Entries live as long as the job they are about. Pure state, part of State; not thread-safe.

#ifndef DELTAWORKS_SCHEDULER_REQUEST_LOG_H_
#define DELTAWORKS_SCHEDULER_REQUEST_LOG_H_

#include <string>
#include <tuple>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

class RequestLog {
 public:
  // What to do with `request`:
  //   the job's name         the same was carried out before, for that job; change nothing.
  //   "" (OK)                it is new, or has no id; carry it out and store it.
  //   InvalidArgument        the id is longer than 64 or not printable ASCII.
  //   AlreadyExists          the id was used for another request; names the first field that
  //   differs.
  absl::StatusOr<std::string> Find(absl::string_view tenant, absl::string_view rpc,
                                   absl::string_view request_id,
                                   const google::protobuf::Message& request) const;

  // DataLoss if the id is stored already.
  absl::Status Store(const StoredRequest& request);

  // Appends the entries, by tenant, rpc and id.
  void AppendTo(google::protobuf::RepeatedPtrField<StoredRequest>* requests) const;

 private:
  using Key = std::tuple<std::string, std::string, std::string>;
  absl::btree_map<Key, StoredRequest> requests_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_REQUEST_LOG_H_
