// RequestLog: which request ids were used, for what, so that a repeated request acts once.
//
// Unique by (tenant, rpc, request_id). The stored request is compared field by field with the new
// one. Entries live as long as the job they are about is in the state, then they are in the
// archive. Pure state, part of State; not thread-safe.

#ifndef DELTAWORKS_SCHEDULER_REQUEST_LOG_H_
#define DELTAWORKS_SCHEDULER_REQUEST_LOG_H_

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

class RequestLog {
 public:
  RequestLog() = default;
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // nullptr if the id was not used.
  const StoredRequest* Find(absl::string_view tenant, absl::string_view rpc,
                            absl::string_view request_id) const;

  // DataLoss if the id is stored already.
  absl::Status Store(const StoredRequest& request);

  // Those about `job`.
  std::vector<StoredRequest> About(absl::string_view job) const;
  void DropAbout(absl::string_view job);
  void Clear();

  // Appends the entries, by tenant, rpc and id.
  void AppendTo(google::protobuf::RepeatedPtrField<StoredRequest>* requests) const;

 private:
  // Views into the value.
  using Key = std::tuple<absl::string_view, absl::string_view, absl::string_view>;
  static Key KeyOf(const StoredRequest& request) {
    return {request.tenant(), request.rpc(), request.request_id()};
  }

  std::map<Key, std::unique_ptr<const StoredRequest>> requests_;
  absl::btree_set<std::pair<absl::string_view, Key>> by_job_;
};

// InvalidArgument if the id is longer than 64 or not printable ASCII.
absl::Status CheckRequestId(absl::string_view request_id);

// The job that `request`, whose id was used by `stored`, was about. AlreadyExists, with the first
// field that differs, if it is another request.
absl::StatusOr<std::string> JobOfRepeated(const StoredRequest& stored,
                                          const google::protobuf::Message& request);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_REQUEST_LOG_H_
