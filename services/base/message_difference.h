// Requests compared by reflection: under a request_id the same request is answered again, another
// one is refused by the name of the first field that differs. Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_MESSAGE_DIFFERENCE_H_
#define DELTAWORKS_SERVICES_BASE_MESSAGE_DIFFERENCE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}

namespace deltaworks::services {

// The path of the first field, in the order of the .proto, in which `a` and `b` (of one type)
// differ: "job.train.lora.rank". Empty if they are equal. Maps are compared without order.
std::string FirstDifference(const google::protobuf::Message& a, const google::protobuf::Message& b);

// sha256 of `request` without its fields page_size, page_token and request_id, the same for equal
// requests.
std::string RequestFingerprint(const google::protobuf::Message& request);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_MESSAGE_DIFFERENCE_H_
