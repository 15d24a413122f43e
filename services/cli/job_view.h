// Jobs as tables. Pure but for the output; not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_JOB_VIEW_H_
#define DELTAWORKS_SERVICES_CLI_JOB_VIEW_H_

#include <string>

#include "proto/deltaworks/v1/common.pb.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/cli/command.h"
#include "services/cli/table.h"

namespace deltaworks::services {

// "DISK_FULL: blob: 3 GB free, want 5 GB (not your fault; repeating may help)".
std::string FailureText(const v1::Failure& failure);

// What it trains, and what the store found. Lines without a value are left out.
void AddTask(const v1::Job& job, FactSheet& facts);
void AddFacts(const v1::TrainFacts& found, FactSheet& facts);

// Everything of one job: state and why, waiting reason and position, progress, how many parameters
// are trained of how many, attempts, result; or JSON.
void PrintJob(CommandContext& context, const v1::Job& job);

// One row each; or JSON.
void PrintJobs(CommandContext& context, const v1::ListJobsResponse& jobs);

// One line of the log of a job; or JSON, in one line.
void PrintEvent(CommandContext& context, const v1::JobEvent& event);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_JOB_VIEW_H_
