#include "scheduler/request_log.h"

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "scheduler/message_difference.h"

namespace deltaworks::scheduler {
namespace {

constexpr size_t kIdBytesMax = 64;

bool IsPrintable(char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); }

}  // namespace

absl::StatusOr<std::string> RequestLog::Find(absl::string_view tenant, absl::string_view rpc,
                                             absl::string_view request_id,
                                             const google::protobuf::Message& request) const {
  if (request_id.empty()) return std::string();
  if (request_id.size() > kIdBytesMax ||
      !std::all_of(request_id.begin(), request_id.end(), IsPrintable)) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id is \"", absl::CHexEscape(request_id.substr(0, 100)), "\" (",
                     request_id.size(), " bytes), want at most 64 printable ASCII characters"));
  }
  const auto found =
      requests_.find(Key(std::string(tenant), std::string(rpc), std::string(request_id)));
  if (found == requests_.end()) return std::string();

  std::unique_ptr<google::protobuf::Message> before(request.New());
  if (!before->ParseFromString(found->second.request())) {
    return absl::DataLossError(
        absl::StrCat("the stored request ", request_id, " of ", rpc, " does not parse"));
  }
  const std::string field = FirstDifference(*before, request);
  if (field.empty()) return found->second.job();
  return absl::AlreadyExistsError(absl::StrCat("request_id \"", request_id, "\" of ", rpc,
                                               " was used for another request: ", field,
                                               " differs; it was about ", found->second.job()));
}

absl::Status RequestLog::Store(const StoredRequest& request) {
  const Key key(request.tenant(), request.rpc(), request.request_id());
  if (!requests_.emplace(key, request).second) {
    return absl::DataLossError(absl::StrCat("request_id \"", request.request_id(), "\" of ",
                                            request.rpc(), " is stored twice"));
  }
  return absl::OkStatus();
}

void RequestLog::AppendTo(google::protobuf::RepeatedPtrField<StoredRequest>* requests) const {
  for (const auto& [key, request] : requests_) *requests->Add() = request;
}

}  // namespace deltaworks::scheduler
