// Workload: what the tests put through a platform: tiny bases, small datasets made from a seed,
// jobs, and their history. Every function fails the test by a CHECK that says why, where a test
// could not go on.

#ifndef DELTAWORKS_TESTS_E2E_WORKLOAD_H_
#define DELTAWORKS_TESTS_E2E_WORKLOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "tests/e2e/platform.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::e2e {

// The value, or the end of the test.
template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

struct BaseOptions {
  std::string tenant = kAcme;
  std::string id = "tiny";
  v1::NumberType form = v1::F32;
  trainer::TinyModel model = trainer::MakeTinyModel();
};

// Random weights, large beside what a worker needs for one short example: about 60 bytes a squared
// hidden_size (a multiple of 1,024) in bf16, so 60 MB at 1,024.
trainer::TinyModel LargerModel(int64_t hidden_size);

// Writes the model as a Hugging Face folder, imports it, and returns it READY.
v1::BaseModel ImportBase(Platform& platform, const BaseOptions& options = {});

// As above, whatever comes of it.
absl::StatusOr<v1::BaseModel> StartImport(Platform& platform, const BaseOptions& options);
v1::BaseModel AwaitImport(Platform& platform, const std::string& name);

// `count` pairs of prompt and completion, about 60 tokens each, that a tiny model can learn.
std::string DatasetLines(int count, uint32_t seed);
// Uploads them and makes a dataset of them.
v1::Dataset AddDataset(Platform& platform, const std::string& id, int count, uint32_t seed,
                       const std::string& tenant = kAcme);

// A job of acme on tenants/acme/baseModels/tiny and datasets/pairs, with dropout: rank 4 on all
// linear layers, batches of 16, the adapter named as the job. Retries are unlimited.
v1::CreateJobRequest JobRequest(const std::string& id, int64_t max_steps);

v1::Job Submit(Platform& platform, const v1::CreateJobRequest& request);
v1::Job GetJob(Platform& platform, const std::string& name);
// Until `condition` holds; ends the test with the job's state if it does not within `timeout`.
v1::Job AwaitJob(Platform& platform, const std::string& name,
                 const std::function<bool(const v1::Job&)>& condition,
                 absl::Duration timeout = absl::Seconds(90));
bool IsFinal(v1::JobState state);
// Until it is SUCCEEDED, FAILED or CANCELLED.
v1::Job AwaitEnd(Platform& platform, const std::string& name);
// Until it is RUNNING and has done `step` steps.
v1::Job AwaitStep(Platform& platform, const std::string& name, int64_t step);
// Submits, and expects SUCCEEDED.
v1::Job RunToSuccess(Platform& platform, const v1::CreateJobRequest& request);

// All events and metric points of a final job, as a watch from the beginning gives them.
struct History {
  std::vector<v1::JobEvent> events;
  std::vector<v1::MetricPoint> metrics;
};
History HistoryOf(Platform& platform, const std::string& name);

// All versions of an adapter, newest first.
std::vector<v1::AdapterVersion> VersionsOf(Platform& platform, const std::string& adapter);

// The greedy continuation of a text as of the dataset's, by a base, a version or an adapter.
struct Answer {
  std::vector<int32_t> tokens;
  v1::GenerateResponse last;
};
Answer Generate(Platform& platform, const std::string& model,
                v1::ModelSelector::Mode mode = v1::ModelSelector::UNMERGED);

// The files of a version by name, as downloaded, with the digests that came along.
struct DownloadedFile {
  std::string digest;
  std::string bytes;
};
std::map<std::string, DownloadedFile> Download(Platform& platform, const std::string& version);

// "JOB_STATE_NAME: message" and the failure, for messages.
std::string Describe(const v1::Job& job);

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_WORKLOAD_H_
