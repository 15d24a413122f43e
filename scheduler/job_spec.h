// A job as it was asked for, checked and completed: ranges, names, defaults.
//
// Every number of TrainSpec has its range and default in proto/deltaworks/v1/job.proto; this file
// is where they act. What needs the base or the data (target modules, lengths, counts) is checked
// by the store while the job is VALIDATING. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_JOB_SPEC_H_
#define DELTAWORKS_SCHEDULER_JOB_SPEC_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/job.pb.h"

namespace deltaworks::scheduler {

// Clears what only the server writes.
void ClearOutputOnly(v1::Job* job);

// InvalidArgument names `field`, value and range. Whether a deadline has passed is not asked here.
absl::Status CheckTiming(absl::string_view field, const v1::Timing& timing);

// Returns `asked` with every default filled in, but for those of the base (text.max_length,
// compute_type, micro_batch_tokens), named tenants/`tenant`/jobs/`job_id`, without status.
// InvalidArgument names field, value and range, as in
// "job.train.lora.rank is 0, want 1..1024", or a resource of another tenant.
absl::StatusOr<v1::Job> CompleteJob(const v1::Job& asked, absl::string_view tenant,
                                    absl::string_view job_id);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_SPEC_H_
