// Harness: a Scheduler with a durable log, a clock that moves when told, and workers that say what
// the test tells them to say. What the service around the core does, without its threads and files.

#ifndef DELTAWORKS_SCHEDULER_TESTING_HARNESS_H_
#define DELTAWORKS_SCHEDULER_TESTING_HARNESS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/scheduler.h"

namespace deltaworks::scheduler {

// "sha256:" and 64 hex digits that depend on `seed`.
std::string FakeDigest(int64_t seed);

// A request that passes all checks, for tenants/t/jobs/`job_id`.
v1::CreateJobRequest MakeCreateRequest(const std::string& job_id);

// "tenants/t/jobs/`job_id`".
std::string JobName(const std::string& job_id);

// The store's answer: valid, 100 steps. Memory is not known: the job shares no worker.
v1::ValidateTrainingResponse MakeValidation();

// Facts of a job that may share: `step_tokens`, and memory that is small.
v1::TrainFacts MakeSharingFacts(int64_t step_tokens);

v1::MetricPoint MakePoint(int64_t step, double loss);

// A worker's side of the conversation. The test edits it, then calls Harness::Sync.
struct FakeWorker {
  explicit FakeWorker(const std::string& id);

  std::string name;
  int64_t incarnation = 1;
  int64_t report_number = 0;
  v1::WorkerEnvironment environment;
  std::vector<v1::PassTime> pass_times;
  bool draining = false;
  // Of the last answer; empty if it was an error.
  v1::SyncResponse answer;
};

class Harness {
 public:
  explicit Harness(Options options = Options());

  // Does not commit by itself; every other method below does.
  absl::StatusOr<Scheduler::Result> Execute(const Command& command);

  // Creates and validates a job; it is then QUEUED, or RUNNING if a worker was free.
  std::string Submit(const std::string& job_id);
  std::string Submit(const v1::CreateJobRequest& request);
  std::string Submit(const v1::CreateJobRequest& request, const v1::TrainFacts& facts);
  absl::Status Cancel(const std::string& job);
  absl::Status Pause(const std::string& job);
  absl::Status Resume(const std::string& job);
  // The registry answers for a FINALIZING job: READY, version 1.
  void AnswerVersion(const std::string& job);

  // One report and its answer. `attempts` is what the worker says that it holds.
  absl::Status Sync(FakeWorker* worker, const std::vector<v1::AttemptReport>& attempts = {});
  // Reports in `phase` at `step` on the job's current attempt.
  static v1::AttemptReport Report(const v1::Assignment& assignment, v1::AttemptReport::Phase phase,
                                  int64_t step);

  // Moves the clock; plans and commits.
  void Advance(absl::Duration duration);
  void Tick();
  void Commit();

  // A new process: nothing but the log survives.
  void Restart();
  // After a commit that failed: what was folded and not committed is lost, leases and fleet stay.
  void Reload();

  const JobRecord& Record(const std::string& job) const;
  v1::JobState StateOfJob(const std::string& job) const;
  v1::Waiting WaitingOf(const std::string& job) const;
  // Jobs of which the registry is to be asked.
  std::vector<std::string> WantVersions() const;
  // Events shown for `job`, by seq.
  std::vector<v1::JobEvent> Shown(const std::string& job) const;
  // State folded from the log alone, and the live one, as bytes.
  std::string ReplayedBytes() const;
  std::string LiveBytes() const;

  Options options;
  absl::Time now;
  std::vector<Event> log;  // Durable, as is:
  JobArchiveOverlay archive{nullptr};
  std::unique_ptr<Scheduler> scheduler;
  Scheduler::Due due;  // Of the last Tick.

 private:
  std::unique_ptr<State> ReplayLog() const;

  std::mt19937_64 random_{1};
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_TESTING_HARNESS_H_
