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

absl::Status CheckRequestId(absl::string_view request_id) {
  if (request_id.size() <= kIdBytesMax &&
      std::all_of(request_id.begin(), request_id.end(), IsPrintable)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("request_id is \"", absl::CHexEscape(request_id.substr(0, 100)), "\" (",
                   request_id.size(), " bytes), want at most 64 printable ASCII characters"));
}

absl::StatusOr<std::string> JobOfRepeated(const StoredRequest& stored,
                                          const google::protobuf::Message& request) {
  std::unique_ptr<google::protobuf::Message> before(request.New());
  if (!before->ParseFromString(stored.request())) {
    return absl::DataLossError(absl::StrCat("the stored request ", stored.request_id(), " of ",
                                            stored.rpc(), " does not parse"));
  }
  const std::string field = FirstDifference(*before, request);
  if (field.empty()) return stored.job();
  return absl::AlreadyExistsError(absl::StrCat(
      "request_id \"", stored.request_id(), "\" of ", stored.rpc(),
      " was used for another request: ", field, " differs; it was about ", stored.job()));
}

const StoredRequest* RequestLog::Find(absl::string_view tenant, absl::string_view rpc,
                                      absl::string_view request_id) const {
  const auto found = requests_.find({tenant, rpc, request_id});
  return found == requests_.end() ? nullptr : found->second.get();
}

absl::Status RequestLog::Store(const StoredRequest& request) {
  auto stored = std::make_unique<const StoredRequest>(request);
  const Key key = KeyOf(*stored);
  const absl::string_view job = stored->job();
  if (!requests_.emplace(key, std::move(stored)).second) {
    return absl::DataLossError(absl::StrCat("request_id \"", request.request_id(), "\" of ",
                                            request.rpc(), " is stored twice"));
  }
  by_job_.emplace(job, key);
  return absl::OkStatus();
}

std::vector<StoredRequest> RequestLog::About(absl::string_view job) const {
  std::vector<StoredRequest> about;
  for (auto it = by_job_.lower_bound({job, Key()}); it != by_job_.end() && it->first == job; ++it) {
    about.push_back(*requests_.at(it->second));
  }
  return about;
}

void RequestLog::DropAbout(absl::string_view job) {
  const auto begin = by_job_.lower_bound({job, Key()});
  auto end = begin;
  std::vector<Key> keys;
  for (; end != by_job_.end() && end->first == job; ++end) keys.push_back(end->second);
  by_job_.erase(begin, end);  // Before what it has views of.
  for (const Key& key : keys) requests_.erase(requests_.find(key));
}

void RequestLog::Clear() {
  by_job_.clear();
  requests_.clear();
}

void RequestLog::AppendTo(google::protobuf::RepeatedPtrField<StoredRequest>* requests) const {
  for (const auto& [key, request] : requests_) *requests->Add() = *request;
}

}  // namespace deltaworks::scheduler
