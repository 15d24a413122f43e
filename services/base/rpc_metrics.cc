#include "services/base/rpc_metrics.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/support/server_interceptor.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/base/metrics.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {
namespace {

using ::grpc::experimental::InterceptionHookPoints;

// "StoreService/ReadBlob" of "/deltaworks.v1.StoreService/ReadBlob".
std::string MethodLabel(absl::string_view path) {
  if (path.empty() || path.front() != '/') return "other";
  path.remove_prefix(1);
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  const auto* method = pool->FindMethodByName(absl::StrReplaceAll(path, {{"/", "."}}));
  if (method == nullptr) return "other";
  return method->service()->name() + "/" + method->name();
}

// As in the documentation of gRPC.
const char* CodeName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  return code >= 0 && code <= 16 ? kNames[code] : "UNKNOWN";
}

class Recorder {
 public:
  Recorder(Metrics& metrics, const Clock& clock, CallCount& calls)
      : metrics_(metrics),
        clock_(clock),
        calls_(calls),
        in_flight_(metrics.Gauge("deltaworks_rpc_in_flight", "Calls begun and not finished.")) {}

  absl::Duration Begin() {
    calls_.Begin();
    in_flight_.Increment();
    return clock_.Monotonic();
  }

  void Finish(const std::string& method, const grpc::Status& status, absl::Duration start) {
    const Pair pair = Find(method, status.error_code());
    pair.requests->Increment();
    pair.seconds->Observe(absl::ToDoubleSeconds(clock_.Monotonic() - start));
    const grpc::StatusCode code = status.error_code();
    if (code == grpc::INTERNAL || code == grpc::UNKNOWN || code == grpc::DATA_LOSS) {
      LogError("rpc failed",
               {{"method", method}, {"code", CodeName(code)}, {"error", status.error_message()}});
    }
  }

  void End() {
    in_flight_.Decrement();
    calls_.End();
  }

 private:
  struct Pair {
    prometheus::Counter* requests = nullptr;
    prometheus::Histogram* seconds = nullptr;
  };

  Pair Find(const std::string& method, grpc::StatusCode code) {
    MutexLock lock(&mutex_);
    Pair& pair = pairs_[{method, code}];
    if (pair.requests == nullptr) {
      const Metrics::Labels labels = {{"method", method}, {"code", CodeName(code)}};
      pair.requests = &metrics_.Counter("deltaworks_rpc_requests_total",
                                        "Calls finished, by method and code.", labels);
      pair.seconds = &metrics_.Histogram("deltaworks_rpc_duration_seconds",
                                         "Time of a call until its status, by method and code.",
                                         Metrics::LatencySeconds(), labels);
    }
    return pair;
  }

  Metrics& metrics_;
  const Clock& clock_;
  CallCount& calls_;
  prometheus::Gauge& in_flight_;
  Mutex mutex_;
  absl::flat_hash_map<std::pair<std::string, int>, Pair> pairs_ ABSL_GUARDED_BY(mutex_);
};

// One for each call.
class Interceptor final : public grpc::experimental::Interceptor {
 public:
  Interceptor(Recorder& recorder, const char* path)
      : recorder_(recorder), method_(MethodLabel(path)), start_(recorder.Begin()) {}
  ~Interceptor() override { recorder_.End(); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      recorder_.Finish(method_, methods->GetSendStatus(), start_);
    }
    methods->Proceed();
  }

 private:
  Recorder& recorder_;
  const std::string method_;
  const absl::Duration start_;
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  Factory(Metrics& metrics, const Clock& clock, CallCount& calls)
      : recorder_(metrics, clock, calls) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new Interceptor(recorder_, info->method() == nullptr ? "" : info->method());
  }

 private:
  Recorder recorder_;
};

}  // namespace

void CallCount::Begin() {
  MutexLock lock(&mutex_);
  ++count_;
}

void CallCount::End() {
  MutexLock lock(&mutex_);
  if (--count_ == 0) changed_.SignalAll();
}

bool CallCount::WaitForNone(absl::Duration timeout) {
  const absl::Duration end = RealClock().Monotonic() + timeout;
  MutexLock lock(&mutex_);
  while (count_ > 0) {
    const absl::Duration left = end - RealClock().Monotonic();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitWithTimeout(&mutex_, left);
  }
  return true;
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeRpcMetrics(
    Metrics& metrics, const Clock& clock, CallCount& calls) {
  return std::make_unique<Factory>(metrics, clock, calls);
}

}  // namespace deltaworks::services
