#include "services/worker/job_engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "scheduler/proto_time.h"
#include "services/base/spec_conversion.h"
#include "services/worker/device_time.h"
#include "services/worker/engine_job.h"
#include "services/worker/probe.h"
#include "services/worker/training_task.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

// Deterministic: a MetricPoint has no maps, and these have no time and speed.
std::string BytesOf(const v1::MetricPoint& point) { return point.SerializeAsString(); }

}  // namespace

JobEngine::JobEngine(Options options, JobPreparer& preparer, TrainerEvents& events,
                     const Clock& clock, WorkerMetrics& metrics)
    : options_(std::move(options)),
      preparer_(preparer),
      events_(events),
      clock_(clock),
      metrics_(metrics) {}

JobEngine::~JobEngine() {
  for (const auto& job : jobs_) job->cancellation->Cancel();
  jobs_.clear();  // Before the bases that they point to.
}

JobEngine::Job* JobEngine::Find(const AttemptKey& key) {
  for (const auto& job : jobs_) {
    if (job->key == key) return job.get();
  }
  return nullptr;
}

void JobEngine::Remove(const AttemptKey& key) {
  const Job* const job = Find(key);
  TrainingBase* const base = job == nullptr ? nullptr : job->base;
  {
    MutexLock lock(&mutex_);
    cancellations_.erase(key.attempt_id);
  }
  std::erase_if(jobs_, [&](const auto& other) { return other->key == key; });
  // What is left needs less, and another may need the rest.
  if (base != nullptr) base->cohort().ReleaseMemory();
  DropUnusedBases();
}

void JobEngine::DropUnusedBases() {
  std::erase_if(bases_, [&](const auto& entry) {
    return std::none_of(jobs_.begin(), jobs_.end(),
                        [&](const auto& job) { return job->base == entry.second.get(); });
  });
  // One that had a device fault is of no use any more, and a new one costs little.
  std::erase_if(backends_, [&](const auto& entry) {
    return std::none_of(bases_.begin(), bases_.end(),
                        [&](const auto& base) { return base.first.second == entry.first; });
  });
}

void JobEngine::FailJob(Job& job, v1::Failure failure) {
  const AttemptKey key = job.key;
  Remove(key);
  events_.OnFailed(key, std::move(failure));
}

// ---- Commands ----

void JobEngine::Start(const AttemptKey& key, const v1::TrainTask& task) {
  CHECK(Find(key) == nullptr) << "attempt " << key.attempt_id << " was started twice";
  jobs_.push_back(std::make_unique<Job>(key));
  {
    MutexLock lock(&mutex_);
    cancellations_[key.attempt_id] = jobs_.back()->cancellation;
  }
  preparer_.Prepare(key.job, task, jobs_.back()->cancellation,
                    [this, key](Preparation preparation) {
                      options_.post([this, key, preparation = std::move(preparation)]() mutable {
                        OnPrepared(key, std::move(preparation));
                      });
                    });
}

void JobEngine::Interrupt(const AttemptKey& key) {
  MutexLock lock(&mutex_);
  const auto found = cancellations_.find(key.attempt_id);
  if (found != cancellations_.end()) found->second->Cancel();
}

void JobEngine::InterruptAll() {
  MutexLock lock(&mutex_);
  for (const auto& [id, cancellation] : cancellations_) cancellation->Cancel();
}

void JobEngine::TakeCheckpoint(const AttemptKey& key) {
  Job* job = Find(key);
  if (job == nullptr || job->run == nullptr || job->finished()) return;
  job->checkpoint_wanted = true;
  if (job->run->at_step_boundary()) AtStepEnd(*job);
}

void JobEngine::Park(const AttemptKey& key) {
  if (Job* job = Find(key)) job->parked = true;
}

void JobEngine::Resume(const AttemptKey& key) {
  Job* job = Find(key);
  if (job == nullptr) return;
  job->parked = false;
  job->step_began_at = clock_.Monotonic();
}

void JobEngine::Leave(const AttemptKey& key) {
  Job* job = Find(key);
  if (job == nullptr || job->finished()) return;
  job->leaves = true;
  job->parked = false;  // Otherwise the step under way would never end.
  if (job->run == nullptr) {
    job->cancellation->Cancel();
    Remove(key);
    events_.OnLeft(key, nullptr);
  } else if (job->gang() != nullptr) {
    job->run->AskToStop();
  } else if (job->run->at_step_boundary()) {
    AtStepEnd(*job);
  }
}

void JobEngine::Stop(const AttemptKey& key) {
  Job* job = Find(key);
  if (job == nullptr) return;
  job->cancellation->Cancel();
  Remove(key);
  events_.OnLeft(key, nullptr);
}

void JobEngine::Forget(const AttemptKey& key) { Remove(key); }

void JobEngine::Verify(const AttemptKey& key, std::string adapter_model,
                       std::string adapter_config) {
  Job* job = Find(key);
  if (job == nullptr || !job->finished()) return;
  const auto probe = ProbeDigestOfFiles(job->base->model(), job->prepared->data->train,
                                        adapter_model, adapter_config);
  absl::Status status = probe.status();
  if (!status.ok() && !absl::IsResourceExhausted(status) && !absl::IsDataLoss(status)) {
    DeviceFailed(job->base->model().backend(), status);
    return;
  }
  if (probe.ok() && *probe != job->probe_digest) {
    status = absl::DataLossError(absl::StrCat("the logits of the adapter read back are ", *probe,
                                              ", want ", job->probe_digest));
  }
  events_.OnVerified(key, std::move(status));
}

// ---- Passes ----

// `run` is of one of `jobs`.
JobEngine::Job& JobEngine::JobOf(const std::vector<Job*>& jobs, const trainer::TrainingRun* run) {
  return **std::find_if(jobs.begin(), jobs.end(),
                        [run](const Job* job) { return job->run.get() == run; });
}

bool JobEngine::RunOnce() {
  std::map<TrainingBase*, std::vector<Job*>> groups;
  for (const auto& job : jobs_) {
    if (job->trains()) groups[job->base].push_back(job.get());
  }
  size_t runs = 0;
  // A pass may end jobs, but none of another group, and no base that has one; unless it returns
  // false. The other groups have their turn in the next one.
  for (const auto& [base, jobs] : groups) {
    runs += jobs.size();
    if (!PassOf(*base, jobs)) break;
  }
  metrics_.cohort_runs.Set(static_cast<double>(runs));
  return runs > 0;
}

bool JobEngine::PassOf(TrainingBase& base, const std::vector<Job*>& jobs) {
  std::vector<trainer::TrainingRun*> runs;
  for (Job* job : jobs) runs.push_back(job->run.get());
  const absl::Duration begin = clock_.Monotonic();
  const trainer::PassResult pass = base.cohort().Pass(runs);
  const absl::Duration end = clock_.Monotonic();
  metrics_.pass_seconds.Observe(absl::ToDoubleSeconds(end - begin));
  TellPass(base, jobs, pass, end - begin);
  for (Job* job : jobs) {
    if (std::exchange(job->steps_seen, job->run->step()) < job->run->step()) {
      job->step_ended_at = end;
    }
  }
  for (const trainer::RunMetrics& step : pass.metrics) {
    TellProgress(JobOf(jobs, step.run), step.metrics);
  }
  if (!pass.status.ok() && !absl::IsResourceExhausted(pass.status)) {
    DeviceFailed(base.model().backend(), pass.status);
    return false;
  }
  std::vector<Job*> waiting;
  for (Job* job : jobs) {
    if (absl::c_linear_search(pass.waiting, job->run.get())) {
      waiting.push_back(job);
      continue;
    }
    if (const absl::Status health = Health(*job); !health.ok()) {
      FailJob(*job, RunFailure(*job, health));
    } else if (job->run->at_step_boundary()) {
      AtStepEnd(*job);
    }
  }
  if (!waiting.empty()) NoRoomForPass(waiting, pass.status);
  return true;
}

void JobEngine::TellPass(TrainingBase& base, const std::vector<Job*>& jobs,
                         const trainer::PassResult& pass, absl::Duration took) {
  if (pass.turns.empty()) return;
  std::vector<PassPart> parts;
  PassMeasure measure = {
      .base_manifest_digest = jobs.front()->prepared->task.facts().base_manifest_digest(),
      .compute_type = ToNumberType(jobs.front()->prepared->compute_type),
      .duration = took};
  const bool first = base.TakeFirstPass();
  // One of a gang waits for others.
  bool typical = pass.status.ok() && !first && jobs.front()->gang() == nullptr;
  for (const trainer::RunTurn& turn : pass.turns) {
    parts.push_back({.tokens = turn.tokens,
                     .trainable_parameters = turn.run->adapter().elements(),
                     .evaluated = turn.evaluated});
    measure.tokens += turn.tokens;
    typical = typical && !turn.evaluated;
  }
  const std::vector<absl::Duration> shares =
      DeviceTimeShares(took, base.manifest().parameters, parts);
  PassReport report;
  for (size_t i = 0; i < shares.size(); ++i) {
    Job& job = JobOf(jobs, pass.turns[i].run);
    job.device_time += shares[i];
    report.device_times.push_back({.key = job.key, .so_far = job.device_time});
  }
  if (typical) report.measure = std::move(measure);
  events_.OnPass(report);
}

// A step's own loss and gradient are checked by the run, before its update; here what the update
// led to: no adapter with a NaN leaves the worker, and no point that cannot be compared.
absl::Status JobEngine::Health(const Job& job) const {
  if (!job.run->status().ok()) return job.run->status();
  if (job.last_point.has_eval_loss() && !std::isfinite(job.last_point.eval_loss())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "training diverged at step ", job.last_point.step(), ": eval_loss is ",
        job.last_point.eval_loss(), ", want a finite number; try a lower learning_rate"));
  }
  if (!job.run->finished()) return absl::OkStatus();
  const std::vector<float> parameters = job.run->adapter().ReadParameters();
  const auto bad = std::find_if_not(parameters.begin(), parameters.end(),
                                    [](float value) { return std::isfinite(value); });
  if (bad == parameters.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("training diverged at step ", job.run->step(), ": a weight of the adapter is ",
                   *bad, ", want finite numbers; try a lower learning_rate"));
}

v1::Failure JobEngine::RunFailure(const Job& job, const absl::Status& health) const {
  const std::string message(health.message());
  if (job.gang() == nullptr || absl::IsInvalidArgument(health)) {
    return MakeFailure("DIVERGED", v1::Failure::USER, message);
  }
  return MakeFailure(kGangBroke, v1::Failure::PLATFORM, message);
}

// Nothing was done for these jobs: the last of them to come goes and the others try again.
void JobEngine::NoRoomForPass(const std::vector<Job*>& jobs, const absl::Status& status) {
  Job& last = *jobs.back();
  const bool alone = std::all_of(jobs_.begin(), jobs_.end(), [&](const auto& job) {
    return job.get() == &last || job->run == nullptr;
  });
  FailJob(last, MakeFailure("OUT_OF_MEMORY", alone ? v1::Failure::USER : v1::Failure::PLATFORM,
                            absl::StrCat(status.message(), "; plan: ", last.plan.Text())));
}

// No run on it is what it should be, and a finished one can no longer be tried. With the last of
// them the backend goes, and a job that comes later gets a new one.
void JobEngine::DeviceFailed(const trainer::Backend& backend, const absl::Status& status) {
  std::vector<Job*> lost;
  for (const auto& job : jobs_) {
    if (job->base != nullptr && &job->base->model().backend() == &backend) {
      lost.push_back(job.get());
    }
  }
  for (Job* job : lost) {
    FailJob(*job,
            MakeFailure("WORKER_ERROR", v1::Failure::PLATFORM, std::string(status.message())));
  }
}

void JobEngine::TellProgress(Job& job, const trainer::StepMetrics& metrics) {
  const absl::Duration now = clock_.Monotonic();
  const int64_t tokens = metrics.tokens - job.last_point.tokens();
  const double seconds = absl::ToDoubleSeconds(job.step_ended_at - job.step_began_at);
  job.step_began_at = now;
  job.last_point = ToMetricPoint(metrics);
  if (metrics.step > 0) {
    metrics_.steps.Increment();
    metrics_.tokens.Increment(static_cast<double>(std::max<int64_t>(0, tokens)));
  }
  v1::MetricPoint point = job.last_point;
  if (seconds > 0) point.set_tokens_per_second(static_cast<double>(tokens) / seconds);
  *point.mutable_time() = scheduler::ToProto(clock_.Now());
  events_.OnProgress(job.key, std::move(point));
}

bool JobEngine::CheckpointDue(const Job& job) const {
  if (job.follows()) return false;
  const int64_t save_steps = job.prepared->task.spec().arguments().save_steps();
  const bool by_steps = save_steps > 0 && job.run->step() % save_steps == 0 && !job.did_last_step();
  return job.checkpoint_wanted || by_steps;
}

void JobEngine::AtStepEnd(Job& job) {
  if (job.finished()) return;
  const AttemptKey key = job.key;
  if (job.gang() != nullptr && (job.run->finished() || job.may_leave())) job.gang()->Part();
  if (job.run->finished() && !job.follows()) {
    Finish(job);
  } else if (job.run->finished() || job.may_leave()) {
    std::shared_ptr<const Artifact> checkpoint = job.follows() ? nullptr : CheckpointIfNew(job);
    Remove(key);
    events_.OnLeft(key, std::move(checkpoint));
  } else if (CheckpointDue(job)) {
    job.checkpoint_wanted = false;
    if (auto checkpoint = CheckpointIfNew(job)) events_.OnCheckpoint(key, std::move(checkpoint));
  }
}

// ---- What comes out ----

v1::Manifest JobEngine::ManifestOf(const Job& job, v1::Manifest::Kind kind) const {
  v1::Manifest manifest;
  const v1::TrainFacts& facts = job.prepared->task.facts();
  manifest.set_kind(kind);
  manifest.set_base_source_digest(job.base->manifest().source_digest);
  manifest.set_base_form(job.base->manifest().form == trainer::DType::kF32 ? v1::F32 : v1::BF16);
  manifest.set_dataset_manifest_digest(facts.dataset_manifest_digest());
  manifest.set_numerics_class(job.run->identity().numerics_class);
  manifest.set_step(job.run->step());
  return manifest;
}

std::string JobEngine::AppendAdapter(const Job& job, std::vector<Artifact::File>* files) const {
  const trainer::TrainingRun& run = *job.run;
  const trainer::ModelManifest& base = job.base->manifest();
  trainer::PeftFiles peft =
      trainer::SerializePeft(run.config().lora, run.adapter().tensors(),
                             run.adapter().ReadParameters(), base.source_name, base.source_digest);
  files->emplace_back(trainer::kAdapterConfigFile, std::move(peft.adapter_config));
  files->emplace_back(trainer::kAdapterModelFile, std::move(peft.adapter_model));
  return files->back().entry.digest();
}

// With the adapter's own files, so that a checkpoint can become a version.
std::shared_ptr<const Artifact> JobEngine::CheckpointIfNew(Job& job) {
  if (job.run->step() <= job.checkpoint_step || !job.run->at_step_boundary()) return nullptr;
  job.checkpoint_step = job.run->step();
  v1::Manifest manifest = ManifestOf(job, v1::Manifest::CHECKPOINT);
  std::vector<Artifact::File> files;
  files.emplace_back(kCheckpointFile, job.run->SaveCheckpoint());
  files.emplace_back(kLastStepFile, BytesOf(job.last_point));
  manifest.set_adapter_digest(AppendAdapter(job, &files));
  return std::make_shared<const Artifact>(MakeArtifact(std::move(manifest), std::move(files)));
}

void JobEngine::Finish(Job& job) {
  const trainer::TrainingRun& run = *job.run;
  const auto probe = ProbeDigest(job.base->model(), job.prepared->data->train, run.adapter());
  if (!probe.ok()) {
    const bool memory = absl::IsResourceExhausted(probe.status());
    FailJob(job, MakeFailure(memory ? "OUT_OF_MEMORY" : "WORKER_ERROR", v1::Failure::PLATFORM,
                             absl::StrCat(probe.status().message(), "; plan: ", job.plan.Text())));
    return;
  }
  job.probe_digest = *probe;
  v1::Manifest manifest = ManifestOf(job, v1::Manifest::ADAPTER);
  std::vector<Artifact::File> files;
  manifest.set_adapter_digest(AppendAdapter(job, &files));
  manifest.set_probe_digest(job.probe_digest);

  TrainedResult result;
  result.checkpoint = CheckpointIfNew(job);
  result.adapter_digest = manifest.adapter_digest();
  result.step = run.step();
  result.loss = job.last_point.loss();
  result.artifact =
      std::make_shared<const Artifact>(MakeArtifact(std::move(manifest), std::move(files)));
  events_.OnFinished(job.key, std::move(result));
}

}  // namespace deltaworks::services
