// RpcMetrics: counts and times every rpc of a server, by method and code, in one place.
//
//   deltaworks_rpc_requests_total{method, code}     finished
//   deltaworks_rpc_duration_seconds{method, code}   from the first byte to the status
//   deltaworks_rpc_in_flight                        begun and not finished
//
// Methods are those of the protos linked in; anything else a client invents counts as "other".
// Answers with INTERNAL, UNKNOWN or DATA_LOSS are logged. Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_RPC_METRICS_H_
#define DELTAWORKS_SERVICES_BASE_RPC_METRICS_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "trainer/base/mutex.h"

namespace grpc::experimental {
class ServerInterceptorFactoryInterface;
}

namespace deltaworks::services {

class Clock;
class Metrics;

// Calls that are under way, so that a server can stop as soon as there are none.
class CallCount {
 public:
  void Begin();
  void End();
  // True if there was a moment without calls before `timeout` had passed.
  bool WaitForNone(absl::Duration timeout);

 private:
  Mutex mutex_;
  CondVar changed_;
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// All three must outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeRpcMetrics(
    Metrics& metrics, const Clock& clock, CallCount& calls);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_RPC_METRICS_H_
