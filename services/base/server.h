// Server: a gRPC server with what every service has: tokens, health, reflection, limits, metrics.
//
// Plaintext, and therefore on loopback only. Rpcs that are refused before a handler runs: without a
// token (UNAUTHENTICATED), with a message above message_bytes_max, and beyond threads_max calls at
// once (both RESOURCE_EXHAUSTED). gRPC reads a message whole before it looks at its size, so what a
// client announces is bounded by memory_bytes_max: above it, streams are cut with
// RESOURCE_EXHAUSTED.
//
// Thread-safe after Start().

#ifndef DELTAWORKS_SERVICES_BASE_SERVER_H_
#define DELTAWORKS_SERVICES_BASE_SERVER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace deltaworks::services {

class Authenticator;
class CallCount;
class Clock;
class Metrics;

class Server {
 public:
  struct Options {
    // Port 0 takes a free one.
    std::string address = "127.0.0.1:0";
    // 4 MiB of payload and a margin for the fields around it.
    int64_t message_bytes_max = (int64_t{4} << 20) + (64 << 10);
    // Of all messages that are being received or sent.
    int64_t memory_bytes_max = int64_t{256} << 20;
    // Threads of synchronous handlers, that is, calls and streams at once.
    int threads_max = 128;
  };

  // The other arguments must outlive the server.
  //   InvalidArgument     the address is malformed or not loopback
  //   FailedPrecondition  the address is in use; says what to do
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Options& options,
                                                       const Authenticator& authenticator,
                                                       Metrics& metrics, const Clock& clock,
                                                       const std::vector<grpc::Service*>& services);
  // Stops at once.
  ~Server();

  int port() const { return port_; }
  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

  // What the health service answers, for the server ("") and each of its services.
  void SetServing(bool serving);

  // Refuses new calls with UNAVAILABLE, returns as soon as those under way have ended, and cuts off
  // what has not ended when `deadline` has passed. Idle connections do not delay it.
  void Stop(absl::Duration deadline);

 private:
  Server();
  const std::shared_ptr<std::atomic<bool>> stopping_;
  const std::unique_ptr<CallCount> calls_;
  std::string address_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;  // Last: its calls use what is above.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_SERVER_H_
