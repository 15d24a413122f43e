// The worker's process. `worker --help` tells its flags; services/worker/README.md the rest.
// SIGTERM: every job checkpoints and is handed back, within --stop_deadline.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "services/base/address.h"
#include "services/base/compute_device.h"
#include "services/base/flags.h"
#include "services/base/service_main.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_store_client.h"
#include "services/clients/grpc_worker_sync_client.h"
#include "services/worker/worker_server.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// What a store that is away costs at most before the worker decides anew, or stops.
constexpr absl::Duration kStoreRetryMax = absl::Seconds(5);

class WorkerProgram final : public ServiceProgram {
 public:
  std::string name() const override { return "worker"; }
  std::string description() const override {
    return "Trains jobs on one device, as the scheduler says.";
  }

  void AddFlags(FlagSet& flags) override {
    flags.Add("scheduler_address", &scheduler_address_, "HOST:PORT of the scheduler");
    flags.Add("store_address", &store_address_, "HOST:PORT of the store");
    flags.Add("token_file", &token_file_,
              "mode 0600, the token that scheduler and store know this worker by");
    flags.Add("device", &options_.device.device,
              "cpu:N, a share of this machine's cores; cuda:N, one of its GPUs; auto");
    flags.Add("machine_id", &options_.machine_id,
              "first part of the worker's name; default: the system's machine id");
    flags.Add("lock_folder", &options_.lock_folder,
              "locks and incarnations of devices; the same for all workers of a machine");
    flags.Add("cache_folder", &options_.cache_folder,
              "base models; shared by the workers and inference services of a node");
    flags.Add("threads", &options_.device.threads,
              "threads that compute; 0: as many as --cores, or as the machine has");
    flags.Add("cores", &options_.device.cores,
              "core numbers that the threads are bound to; none: any");
    flags.Add("cuda_graphs", &options_.device.cuda_graphs, kCudaGraphsHelp);
    flags.Add("memory_bytes", &options_.device.memory_bytes,
              "that jobs may use; 0: three quarters of what this process may have, "
              "or nearly all of a GPU");
    flags.Add(
        "gang_address", &options_.gang_address,
        "HOST or HOST:PORT of this machine, where the other workers of a gang reach this one; "
        "empty: it is part of no gang");
    flags.Add("labels", &options_.device.labels,
              "KEY=VALUE, for jobs that ask for workers with labels");
  }

  absl::Status Start(const ServiceEnvironment& environment) override {
    DW_RETURN_IF_ERROR(ParseHostPort("--scheduler_address", scheduler_address_).status());
    DW_RETURN_IF_ERROR(ParseHostPort("--store_address", store_address_).status());
    if (token_file_.empty()) {
      return absl::InvalidArgumentError("--token_file is empty, want a file with a token");
    }
    DW_ASSIGN_OR_RETURN(const std::string token, ReadSecretFile(token_file_));
    Channel to_store = MakeChannel(store_address_, token);
    to_store.retry.total_max = kStoreRetryMax;
    store_ = MakeGrpcStoreClient(to_store);
    scheduler_ = MakeGrpcWorkerSyncClient(MakeChannel(scheduler_address_, token));
    DW_ASSIGN_OR_RETURN(server_,
                        WorkerServer::Start(options_, *store_, *scheduler_, environment.clock,
                                            environment.metrics, environment.request_stop));
    return absl::OkStatus();
  }

  void Serving(const std::string&) override { server_->Serve(); }
  void Drain(absl::Duration deadline) override { server_->Drain(deadline); }
  void Stop() override { server_.reset(); }

 private:
  std::string scheduler_address_ = "127.0.0.1:7001";
  std::string store_address_ = "127.0.0.1:7002";
  std::string token_file_;
  WorkerServer::Options options_ = {.device = {},
                                    .machine_id = "",
                                    .lock_folder = "/var/tmp/deltaworks-devices",
                                    .cache_folder = "/var/tmp/deltaworks-cache"};
  std::unique_ptr<StoreClient> store_;
  std::unique_ptr<WorkerSyncClient> scheduler_;
  std::unique_ptr<WorkerServer> server_;  // Last: it uses both.
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::WorkerProgram program;
  return deltaworks::services::ServiceMain(argc, argv, program);
}
