// What the trainer is told of a job besides its spec (services/base/spec_conversion.h), and what it
// tells of itself. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_TRAINING_TASK_H_
#define DELTAWORKS_SERVICES_WORKER_TRAINING_TASK_H_

#include <string>

#include "proto/deltaworks/v1/common.pb.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "trainer/tensor.h"
#include "trainer/train/training_config.h"
#include "trainer/train/training_run.h"

namespace deltaworks::services {

// kF32 or kBF16: the spec's, or the base's form.
trainer::DType ComputeTypeOf(const v1::TrainSpec& spec, const v1::TrainFacts& facts);

// What the job's checkpoints are bound to, besides the numerics class.
trainer::RunIdentity IdentityOf(const v1::TrainFacts& facts);

v1::Failure MakeFailure(const std::string& code, v1::Failure::Fault fault, std::string message);

// Without time and speed, which differ from run to run.
v1::MetricPoint ToMetricPoint(const trainer::StepMetrics& metrics);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TRAINING_TASK_H_
