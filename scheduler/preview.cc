#include "scheduler/preview.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/estimator.h"
#include "scheduler/pass_speed.h"
#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {
namespace {

void AddWorkers(const JobRecord& record, const State& state, const Fleet& fleet,
                const Options& options, v1::EstimateJobResponse* response) {
  const JobShape shape = ShapeOf(record, options);
  const Work work = RemainingWork(record);
  using Kind = std::tuple<std::string, std::string, int64_t>;
  std::map<Kind, v1::WorkerKindFit> kinds;
  for (const auto& [name, worker] : fleet.workers()) {
    if (!worker.online) continue;
    const v1::WorkerEnvironment& is = worker.environment;
    v1::WorkerKindFit& kind = kinds[{is.device_kind(), is.device_description(), is.memory_bytes()}];
    kind.set_device_kind(is.device_kind());
    kind.set_device_description(is.device_description());
    kind.set_memory_bytes(is.memory_bytes());
    kind.set_online(kind.online() + 1);
    const v1::WorkerMode mode = state.WorkerMode(name);
    if (!TakesJobs(worker, mode)) continue;
    kind.set_taking_jobs(kind.taking_jobs() + 1);
    const Fit fit = CheckWorkerKind(shape, worker, /*any_class=*/true);
    if (fit.verdict != Verdict::kFits) {
      kind.set_reason(fit.reason);
      continue;
    }
    kind.set_fitting(kind.fitting() + 1);
    const PassSpeed speed = SpeedOf(shape, work, worker);
    // The one that measured knows best.
    if (kind.fitting() == 1 || (speed.measured && !kind.measured())) {
      kind.set_device_ms(std::llround(std::min(speed.Seconds(work) * 1e3, 9e18)));
      kind.set_measured(speed.measured);
    }
    const Fit now = CheckWorker(shape, worker, mode, state.LoadOf(name), true, options);
    kind.set_fitting_now(kind.fitting_now() + (now.verdict == Verdict::kFits ? 1 : 0));
  }
  for (const bool fits : {true, false}) {
    for (const auto& [key, kind] : kinds) {
      if ((kind.fitting() > 0) == fits) *response->add_workers() = kind;
    }
  }
}

// Takes back what follows from the name.
void ForgetName(v1::Job* job) {
  const ResourceName name = *ParseResourceName("job.name", job->name(), "jobs");
  if (job->train().adapter() == absl::StrCat("tenants/", name.tenant, "/adapters/", name.id)) {
    job->mutable_train()->clear_adapter();
  }
  job->clear_name();
}

}  // namespace

v1::EstimateJobResponse PreviewJob(const v1::Job& job, const v1::ValidateTrainingResponse& answer,
                                   const State& state, const Fleet& fleet,
                                   const Explainer::Sources* sources, const Options& options,
                                   absl::Time now) {
  v1::EstimateJobResponse response;
  *response.mutable_job() = job;
  *response.mutable_warnings() = answer.warnings();
  if (answer.has_failure()) {
    *response.mutable_failure() = answer.failure();
    ForgetName(response.mutable_job());
    return response;
  }
  JobRecord record;
  *record.mutable_job() = job;
  *record.mutable_job()->mutable_create_time() = ToProto(now);
  if (answer.has_spec()) *record.mutable_job()->mutable_train() = answer.spec();
  v1::JobStatus& status = *record.mutable_job()->mutable_status();
  status.set_state(v1::QUEUED);
  *status.mutable_facts() = answer.facts();
  status.mutable_progress()->set_total_steps(answer.facts().total_steps());
  if (job.timing().has_start_after() && FromProto(job.timing().start_after()) > now) {
    *record.mutable_waits_until() = job.timing().start_after();
  }
  AddWorkers(record, state, fleet, options, &response);
  if (sources != nullptr) {
    const Estimator estimator(state, fleet, sources->workers, sources->speeds, options);
    if (auto estimate = estimator.EstimateOf(record)) {
      *status.mutable_estimate() = *std::move(estimate);
    }
    if (auto bound = estimator.BoundOf(record, now)) {
      *status.mutable_start_bound() = *std::move(bound);
    }
  }
  *response.mutable_job() = Explainer(state, fleet, options, now).ShowOne(record, sources);
  response.mutable_job()->mutable_status()->set_state(v1::JOB_STATE_UNSPECIFIED);
  response.mutable_job()->clear_create_time();
  ForgetName(response.mutable_job());
  return response;
}

}  // namespace deltaworks::scheduler
