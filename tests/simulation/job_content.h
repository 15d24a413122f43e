// What simulated training computes: numbers that depend on the job and on every step since its
// beginning, so that a step left out, done twice or taken from another job gives another adapter.
// Plain functions.

#ifndef DELTAWORKS_TESTS_SIMULATION_JOB_CONTENT_H_
#define DELTAWORKS_TESTS_SIMULATION_JOB_CONTENT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/worker/artifact.h"

namespace deltaworks::simulation {

// Ends of datasets' names that make a job fail: when it is validated, in its second step, and by
// killing whoever trains it.
inline constexpr char kBadDataset[] = "-bad";
inline constexpr char kDivergingDataset[] = "-diverges";
inline constexpr char kDeadlyDataset[] = "-deadly";

// All workers compute alike.
inline constexpr char kNumericsClass[] = "simulated-f32";

// The base that a tenant has, and the two blobs it is made of.
struct BaseContent {
  v1::BaseModel base;
  std::string config;
  std::string manifest;
};
BaseContent MakeBase(const std::string& tenant);

v1::TrainFacts FactsOf(const v1::TrainSpec& spec, const v1::BaseModel& base);

// The training's state at step 0 is FirstState; NextState is that after `step`.
uint64_t FirstState(absl::string_view job);
uint64_t NextState(uint64_t state, int64_t step);
v1::MetricPoint PointOf(uint64_t state, int64_t step);

services::Artifact MakeCheckpoint(const v1::TrainTask& task, uint64_t state, int64_t step);
absl::StatusOr<uint64_t> ParseCheckpoint(absl::string_view bytes);
services::Artifact MakeResult(const v1::TrainTask& task, uint64_t state);

// The manifest digest that the result of a job must have.
std::string ExpectedResult(const v1::Job& job);

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_JOB_CONTENT_H_
