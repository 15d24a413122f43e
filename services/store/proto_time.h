// absl::Time as google.protobuf.Timestamp.

#ifndef DELTAWORKS_SERVICES_STORE_PROTO_TIME_H_
#define DELTAWORKS_SERVICES_STORE_PROTO_TIME_H_

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace deltaworks::services {

inline void SetTime(absl::Time time, google::protobuf::Timestamp& out) {
  const timespec parts = absl::ToTimespec(time);
  out.set_seconds(parts.tv_sec);
  out.set_nanos(static_cast<int32_t>(parts.tv_nsec));
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_PROTO_TIME_H_
