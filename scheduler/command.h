// Command: everything that can be asked of the core. Each is turned into events by Decide.

#ifndef DELTAWORKS_SCHEDULER_COMMAND_H_
#define DELTAWORKS_SCHEDULER_COMMAND_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/operator_service.pb.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::scheduler {

// The store answered for a VALIDATING job. Errors of the call are no answer: ask again.
struct ValidationAnswer {
  std::string job;
  v1::ValidateTrainingResponse response;
};

// The registry answered CreateVersion for a FINALIZING job, or refused. Errors that may pass
// (UNAVAILABLE, DEADLINE_EXCEEDED, ...) change nothing: ask again.
struct VersionAnswer {
  std::string job;
  absl::StatusOr<v1::AdapterVersion> version;
};

// A report of a worker that Fleet accepted.
struct WorkerReport {
  v1::SyncRequest report;
};

// A scheduler starts or takes over. Once, before anything else, and not after a reload.
struct StartScheduler {};

// From a Plan:

struct EndLease {
  std::string job;
  int64_t lease_epoch = 0;
  std::string attempt_id;
  std::string worker;
};

struct GrantAttempt {
  std::string job;
  std::string worker;
  int64_t worker_incarnation = 0;
  std::string numerics_class;
  bool alone = true;
  // Of a gang: its other workers, of ranks 1, 2, ..., with their incarnations.
  std::vector<std::pair<std::string, int64_t>> others;
};

// Asks jobs on a worker to make room there for a waiting one; all of them, or nothing happens.
struct Preempt {
  std::string worker;
  std::vector<std::string> victims;
  std::string by;
};

// Attempts die there one after the other.
struct QuarantineWorker {
  std::string worker;
};

// Its time is over.
struct ReleaseWorker {
  std::string worker;
};

// Its start_after has come.
struct ReleaseJob {
  std::string job;
};

// Its start bound is to be computed again.
struct RenewStartBound {
  std::string job;
};

// It ended a while ago.
struct ArchiveJob {
  std::string job;
};

// It ended so long ago that it is not kept any longer.
struct DropJob {
  std::string job;
};

// Its deadline has passed.
struct ExpireJob {
  std::string job;
};

using Command = std::variant<v1::CreateJobRequest, v1::RerunJobRequest, v1::CancelJobRequest,
                             v1::PauseJobRequest, v1::ResumeJobRequest, v1::UpdateJobRequest,
                             v1::DeleteJobRequest, v1::SetQuotaRequest, v1::SetWorkerModeRequest,
                             ValidationAnswer, VersionAnswer, WorkerReport, StartScheduler,
                             EndLease, GrantAttempt, Preempt, QuarantineWorker, ReleaseWorker,
                             ReleaseJob, RenewStartBound, ExpireJob, ArchiveJob, DropJob>;

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_COMMAND_H_
