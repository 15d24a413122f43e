// Reading a JobRecord: small questions that several files ask. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_JOB_RECORD_H_
#define DELTAWORKS_SCHEDULER_JOB_RECORD_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

inline v1::JobState StateOf(const JobRecord& record) { return record.job().status().state(); }

// True if (lease_epoch, attempt_id) is the job's current attempt.
bool IsCurrent(const JobRecord& record, int64_t lease_epoch, absl::string_view attempt_id);

// True if it is the attempt whose result was accepted.
bool IsResultAttempt(const JobRecord& record, int64_t lease_epoch, absl::string_view attempt_id);

// Workers that the job's attempts have, at least 1.
inline int32_t GangSizeOf(const v1::Job& job) { return std::max(1, job.placement().gang_size()); }

// Whether the attempt is, or was, granted to the worker in this incarnation.
bool IsMember(const CurrentAttempt& current, absl::string_view worker, int64_t incarnation);

// Workers that hold the attempt: its one, or those of its gang that did not leave, by rank.
void VisitHolders(const CurrentAttempt& current,
                  absl::FunctionRef<void(const std::string& worker)> visit);
int HolderCount(const CurrentAttempt& current);
bool IsHolder(const CurrentAttempt& current, absl::string_view worker);

// The worker of the attempt whose result was accepted; empty without one.
std::string ResultWorker(const JobRecord& record);

// True if it waits after a failed attempt.
bool IsBackingOff(const JobRecord& record);

// Step of the last committed checkpoint; 0 without one.
int64_t CheckpointStep(const JobRecord& record);

// FLOPs of its training that are not in its last checkpoint or report; 0 before it is validated.
double RemainingFlops(const JobRecord& record);
// What is not in them: steps, and tokens of a step, at least 1.
double RemainingSteps(const JobRecord& record);
double StepTokens(const JobRecord& record);

// Manifests that the job itself must keep pinned: its kept checkpoints and, until it is a version,
// its result. Whatever else is pinned with the job as owner may be unpinned.
std::vector<std::string> NeededDigests(const JobRecord& record);

// Longest message of an event, in bytes.
inline constexpr size_t kEventMessageBytesMax = 4000;
// Longest message of a Failure, in bytes.
inline constexpr size_t kFailureMessageBytesMax = 2000;

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_RECORD_H_
