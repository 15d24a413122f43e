#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "tests/bench/scheduler_load/call_queue.h"
#include "tests/bench/scheduler_load/load_result.h"
#include "tests/bench/scheduler_load/loads.h"

namespace deltaworks::bench {
namespace {

constexpr absl::Duration kCallMax = absl::Seconds(60);

class SubmitLoad {
 public:
  SubmitLoad(const SchedulerUnderTest& scheduler, int64_t clients) : scheduler_(scheduler) {
    for (int64_t i = 0; i < clients; ++i) {
      services::Channel channel = scheduler.ConnectTenant();
      auto stub = v1::TrainingService::NewStub(channel.grpc);
      clients_.push_back({.channel = std::move(channel), .stub = std::move(stub)});
    }
  }

  void Run(absl::Duration duration) {
    for (const Client& client : clients_) Submit(client);
    queue_.Run(duration);
  }

  const std::vector<double>& latencies() const { return latencies_; }

 private:
  struct Client {
    services::Channel channel;
    std::unique_ptr<v1::TrainingService::Stub> stub;
  };

  void Submit(const Client& client) {
    const v1::CreateJobRequest request = NewJob();
    const double sent_at = Monotonic();
    queue_.Start<v1::Job>(
        client.channel, kCallMax,
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return client.stub->PrepareAsyncCreateJob(context, request, queue);
        },
        [this, &client, sent_at](const grpc::Status& status, const v1::Job&) {
          if (!status.ok()) {
            scheduler_.Fail(absl::StrCat("a job was not accepted: ", status.error_message()));
          }
          latencies_.push_back(Monotonic() - sent_at);
          Submit(client);
        });
  }

  const SchedulerUnderTest& scheduler_;
  std::vector<Client> clients_;
  std::vector<double> latencies_;
  CallQueue queue_;  // Last: its calls use what is above.
};

}  // namespace

std::string MeasureSubmits(const LoadOptions& options, int64_t clients) {
  LoadResult result(options);
  std::optional<SchedulerUnderTest> scheduler(options.scheduler);
  std::vector<double> latencies;
  {
    SubmitLoad load(*scheduler, clients);
    result.Begin(*scheduler);
    load.Run(options.duration);
    result.End(*scheduler);
    latencies = load.latencies();
  }
  scheduler.reset();
  return result.Text(
      {{"measured", "submits"},
       {"clients", clients},
       {"submits", latencies.size()},
       {"submits_per_second", static_cast<double>(latencies.size()) / result.seconds()},
       {"p50_seconds", Quantile(latencies, 0.5)},
       {"p99_seconds", Quantile(latencies, 0.99)}});
}

}  // namespace deltaworks::bench
