// What a run needs before its first pass, fetched and read: the others of its gang, base folder,
// examples, start checkpoint.
//
// PrepareJob blocks. JobPreparer is the seam of JobEngine: PreparerThread prepares on a thread of
// its own, so that jobs that train do not wait for one that is being fetched.

#ifndef DELTAWORKS_SERVICES_WORKER_JOB_PREPARATION_H_
#define DELTAWORKS_SERVICES_WORKER_JOB_PREPARATION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/event_loop.h"
#include "services/clients/base_cache.h"
#include "services/clients/retry.h"
#include "services/clients/store_client.h"
#include "services/worker/cancellation.h"
#include "services/worker/gang_member.h"
#include "trainer/comm/tcp_socket.h"
#include "trainer/data/example.h"
#include "trainer/tensor.h"
#include "trainer/train/training_config.h"
#include "trainer/train/training_run.h"

namespace deltaworks::services {

struct PreparedJob {
  // Not alone: the others are met. Outlives the run.
  std::unique_ptr<GangMember> gang;
  v1::TrainTask task;
  std::string base_folder;
  trainer::DType compute_type = trainer::DType::kBF16;
  trainer::TrainingConfig config;
  trainer::RunIdentity identity;
  std::shared_ptr<const trainer::TrainingData> data;
  // Of the start checkpoint; empty: from the beginning.
  std::string checkpoint;
  v1::MetricPoint last_step;
};

// Either a job or why there is none.
struct Preparation {
  std::unique_ptr<PreparedJob> job;
  v1::Failure failure;
};

struct PrepareOptions {
  // Meets the others of a gang. Empty: this worker is part of none.
  std::function<absl::StatusOr<std::unique_ptr<GangMember>>(const v1::Gang& gang)> meet;
  // How long it waits for room on this machine's disk, unless it is in a gang. Were that a failure
  // at once, the job would be granted here again at once, and have used up its retries within a
  // second.
  RetryPolicy full_disk;
};

Preparation PrepareJob(const std::string& job_name, const v1::TrainTask& task, BaseCache& bases,
                       StoreClient& store, const std::function<bool()>& cancelled,
                       const PrepareOptions& options = {});

// PrepareJob of one attempt whose worker listens for others at `gang_listener` (or nullptr).
Preparation PrepareJob(const std::string& job_name, const v1::TrainTask& task, BaseCache& bases,
                       StoreClient& store, const std::shared_ptr<Cancellation>& cancellation,
                       trainer::TcpListener* gang_listener, const RetryPolicy& full_disk = {});

class JobPreparer {
 public:
  using Done = absl::AnyInvocable<void(Preparation)>;
  virtual ~JobPreparer() = default;
  // `done` is called once, from any thread, possibly at once. `cancellation` ends it early.
  virtual void Prepare(const std::string& job_name, const v1::TrainTask& task,
                       std::shared_ptr<Cancellation> cancellation, Done done) = 0;
};

// Thread-safe. Preparations run one after the other; destroyed, it waits for the one under way, so
// cancel it before.
class PreparerThread final : public JobPreparer {
 public:
  // All must outlive it. `gang_listener` may be nullptr.
  PreparerThread(BaseCache& bases, StoreClient& store, trainer::TcpListener* gang_listener)
      : bases_(bases), store_(store), gang_listener_(gang_listener) {}
  void Prepare(const std::string& job_name, const v1::TrainTask& task,
               std::shared_ptr<Cancellation> cancellation, Done done) override;

 private:
  BaseCache& bases_;
  StoreClient& store_;
  trainer::TcpListener* const gang_listener_;
  RealEventLoop worker_;  // Last: its tasks use what is above. They block, nothing else runs there.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_JOB_PREPARATION_H_
