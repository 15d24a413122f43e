// TinyWorld: a store in memory with tiny random bases and two datasets, a cache
// of it on disk, and train tasks over them: what tests of the worker train. One by process, made at
// the first use. Thread-safe as its parts are.

#ifndef DELTAWORKS_SERVICES_WORKER_TESTING_TINY_WORLD_H_
#define DELTAWORKS_SERVICES_WORKER_TESTING_TINY_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/metrics.h"
#include "services/clients/base_cache.h"
#include "services/clients/fake_store_client.h"
#include "services/worker/artifact.h"
#include "services/worker/metrics.h"
#include "services/worker/seams.h"

namespace deltaworks::services {

inline constexpr int64_t kTinySteps = 12;

struct TinyWorld {
  TinyWorld();

  Metrics registry{"worker"};
  WorkerMetrics metrics{registry};
  FakeStoreClient store;
  std::string folder;  // Of this process, for tests.
  std::unique_ptr<BaseCache> bases;
  std::string base_digest;
  std::string other_base_digest, bf16_base_digest;  // The same weights.
  std::string train_digest, validation_digest;
};

TinyWorld& TheWorld();

// Of tenants/t/jobs/{job}.
AttemptKey KeyOf(const std::string& job, int64_t epoch = 1);

// kTinySteps steps with dropout, accumulation and validation.
v1::TrainTask TinyTask(int64_t seed = 42);

// The same task, begun at a checkpoint, which the store gets.
v1::TrainTask StartingFrom(v1::TrainTask task, const Artifact& checkpoint);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TESTING_TINY_WORLD_H_
