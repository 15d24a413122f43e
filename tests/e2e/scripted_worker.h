// ScriptedWorker: a worker that trains nothing: it takes one job through the real scheduler, store
// and registry with an adapter that the test made, so that a test can hand in what no honest worker
// would. Thread-compatible.

#ifndef DELTAWORKS_TESTS_E2E_SCRIPTED_WORKER_H_
#define DELTAWORKS_TESTS_E2E_SCRIPTED_WORKER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proto/deltaworks/v1/store_service.pb.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/clients/worker_sync_client.h"
#include "tests/e2e/platform.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"

namespace deltaworks::e2e {

// A result before it is uploaded. Sound as it comes; a test spoils what it likes.
struct ScriptedResult {
  trainer::LoraConfig config;
  std::vector<trainer::AdapterTensor> tensors;
  std::vector<float> values;
  std::string base_digest;  // That the safetensors are bound to.
  v1::Manifest manifest;    // Its files are filled in at upload, from the bytes.
  // Called with the safetensors' bytes after their digest was taken for manifest.adapter_digest.
  std::function<void(std::string& adapter_model)> spoil_bytes;
};

// What was uploaded.
struct UploadedResult {
  std::string manifest_digest;
  std::string adapter_digest;
};

class ScriptedWorker {
 public:
  // `base`: of the model whose `config` this is.
  ScriptedWorker(Platform& platform, const trainer::ModelConfig& config);

  // Syncs until a job is assigned.
  v1::Assignment AwaitJob();
  // Of the shape and with the lineage that the job asks for.
  ScriptedResult SoundResult(const v1::Assignment& job) const;
  UploadedResult Upload(const v1::Assignment& job, const ScriptedResult& result);
  // Reports it until it is accepted, and that its files are held until the job is final or blobs
  // are missing; returns that answer. A result that is reported again says that it was uploaded
  // again.
  v1::Assignment ReportUntilFinal(const v1::Assignment& job, const UploadedResult& result);

 private:
  v1::SyncRequest NewReport();
  // Phase DONE, with the result unless it is null; returns what the scheduler says of the job.
  v1::Assignment Report(const v1::Assignment& job, const UploadedResult* result);
  v1::SyncResponse Sync(const v1::SyncRequest& request);

  Platform& platform_;
  const trainer::ModelConfig model_;
  std::unique_ptr<services::WorkerSyncClient> scheduler_;
  int64_t report_number_ = 0;
  int64_t term_ = 0;
  int64_t revision_ = 0;
};

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_SCRIPTED_WORKER_H_
