// What a run needs before its first pass, fetched and read: base folder, examples, start
// checkpoint.
//
// PrepareJob blocks. JobPreparer is the seam of JobEngine: PreparerThread prepares on a thread of
// its own, so that jobs that train do not wait for one that is being fetched.

#ifndef DELTAWORKS_SERVICES_WORKER_JOB_PREPARATION_H_
#define DELTAWORKS_SERVICES_WORKER_JOB_PREPARATION_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/event_loop.h"
#include "services/clients/base_cache.h"
#include "services/clients/retry.h"
#include "services/clients/store_client.h"
#include "trainer/data/example.h"
#include "trainer/tensor.h"
#include "trainer/train/training_config.h"
#include "trainer/train/training_run.h"

namespace deltaworks::services {

struct PreparedJob {
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

// `full_disk`: how long it waits for room on this machine's disk. Were that a failure at once, the
// job would be granted here again at once, and have used up its retries within a second.
Preparation PrepareJob(const std::string& job_name, const v1::TrainTask& task, BaseCache& bases,
                       StoreClient& store, const std::function<bool()>& cancelled,
                       const RetryPolicy& full_disk = {});

class JobPreparer {
 public:
  using Done = absl::AnyInvocable<void(Preparation)>;
  virtual ~JobPreparer() = default;
  // `done` is called once, from any thread, possibly at once. `*cancelled` ends it early.
  virtual void Prepare(const std::string& job_name, const v1::TrainTask& task,
                       std::shared_ptr<const std::atomic<bool>> cancelled, Done done) = 0;
};

// Thread-safe. Preparations run one after the other.
class PreparerThread final : public JobPreparer {
 public:
  // Both must outlive it.
  PreparerThread(BaseCache& bases, StoreClient& store) : bases_(bases), store_(store) {}
  ~PreparerThread() override { stopping_ = true; }

  void Prepare(const std::string& job_name, const v1::TrainTask& task,
               std::shared_ptr<const std::atomic<bool>> cancelled, Done done) override;

 private:
  BaseCache& bases_;
  StoreClient& store_;
  std::atomic<bool> stopping_ = false;
  RealEventLoop worker_;  // Last: its tasks use what is above. They block, nothing else runs there.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_JOB_PREPARATION_H_
