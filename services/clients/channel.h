// Channel: how a client reaches a service: address, token, limits.
//
// One Channel per process and service; stubs share its connection. It reconnects by itself, within
// two seconds of the service being back. Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_CHANNEL_H_
#define DELTAWORKS_SERVICES_CLIENTS_CHANNEL_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "services/clients/retry.h"

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace deltaworks::services {

struct Channel {
  std::shared_ptr<grpc::Channel> grpc;
  std::string token;
  // Of one attempt of a unary call; streams and long polls state their own.
  absl::Duration call_timeout = absl::Seconds(20);
  RetryPolicy retry;

  // Sets token and deadline. InfiniteDuration(): no deadline.
  void Prepare(grpc::ClientContext& context, absl::Duration timeout) const;
};

// `address` is "127.0.0.1:50051". Does not connect yet.
Channel MakeChannel(const std::string& address, const std::string& token);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_CHANNEL_H_
