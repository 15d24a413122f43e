// How a job joins the others: its base, its place in memory, its run, its start checkpoint.

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/log.h"
#include "services/worker/engine_job.h"
#include "services/worker/job_engine.h"
#include "services/worker/training_task.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/safetensors.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::services {
namespace {

// The checkpoint as one of our numerics class: from here on the run is no longer exact.
absl::StatusOr<std::string> Adopt(const std::string& checkpoint, const std::string& numerics_class,
                                  std::string* was) {
  DW_ASSIGN_OR_RETURN(trainer::Safetensors file,
                      trainer::ParseSafetensors(checkpoint, "checkpoint"));
  *was = file.metadata["numerics_class"];
  if (*was == numerics_class) return checkpoint;
  file.metadata["numerics_class"] = numerics_class;
  return trainer::SerializeSafetensors(file.tensors, file.metadata);
}

}  // namespace

absl::StatusOr<TrainingBase*> JobEngine::BaseOf(const PreparedJob& prepared) {
  const auto key = std::pair(prepared.base_folder, prepared.compute_type);
  if (const auto found = bases_.find(key); found != bases_.end()) return found->second.get();
  std::unique_ptr<trainer::Backend>& backend = backends_[prepared.compute_type];
  if (backend == nullptr) {
    DW_ASSIGN_OR_RETURN(backend, options_.new_backend(prepared.compute_type));
  }
  DW_ASSIGN_OR_RETURN(std::unique_ptr<TrainingBase> base,
                      TrainingBase::Load(prepared.base_folder, *backend));
  return (bases_[key] = std::move(base)).get();
}

int64_t JobEngine::MemoryNeeded(const Job* joining) const {
  std::map<const TrainingBase*, std::vector<const MemoryPlan*>> cohorts;
  for (const auto& job : jobs_) {
    if (job->run != nullptr || job.get() == joining) cohorts[job->base].push_back(&job->plan);
  }
  int64_t needed = kProcessBytes;
  for (const auto& [base, plans] : cohorts) {
    needed += CohortMemory(base->model().backend(), base->model().config(), plans);
  }
  return needed;
}

bool JobEngine::CheckMemory(Job& job) {
  if (MemoryNeeded(&job) <= options_.memory_bytes) return true;
  const bool fits_alone = job.plan.total_bytes() <= options_.memory_bytes;
  v1::Failure failure = MakeFailure(
      "OUT_OF_MEMORY", fits_alone ? v1::Failure::PLATFORM : v1::Failure::USER,
      absl::StrCat("memory needed is ", job.plan.total_bytes(), " bytes (", job.plan.Text(),
                   "), want at most ", options_.memory_bytes,
                   fits_alone ? absl::StrCat(" of which ", MemoryNeeded(nullptr), " are in use")
                              : std::string(),
                   "; a smaller rank or micro_batch_tokens needs less"));
  FailJob(job, std::move(failure));
  return false;
}

absl::Status JobEngine::JoinGang(const Job& job) {
  if (job.gang() == nullptr || !options_.new_collective) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(std::unique_ptr<trainer::CollectiveDevice> device, options_.new_collective());
  return job.gang()->JoinDevices(std::move(device));
}

bool JobEngine::MakeRun(Job& job) {
  const PreparedJob& prepared = *job.prepared;
  const trainer::Llama& model = job.base->model();
  const auto targets = trainer::ResolveTargets(prepared.config.lora, model.modules());
  if (!targets.ok()) {
    FailJob(job, MakeFailure("INVALID_SPEC", v1::Failure::USER,
                             std::string(targets.status().message())));
    return false;
  }
  job.plan = PlanMemory(model.backend(), model.config(), job.base->bytes(), *targets,
                        prepared.config.micro_batch_tokens, *prepared.data);
  if (!CheckMemory(job)) return false;
  if (const absl::Status joined = JoinGang(job); !joined.ok()) {
    const bool broke = !job.gang()->PeerStatus().ok();
    FailJob(job, MakeFailure(broke ? kGangBroke : "WORKER_ERROR", v1::Failure::PLATFORM,
                             std::string(joined.message())));
    return false;
  }
  auto run =
      trainer::TrainingRun::Create(model, prepared.config, prepared.data, prepared.identity,
                                   job.gang() == nullptr ? nullptr : &job.gang()->of_devices());
  if (run.ok()) {
    job.run = *std::move(run);
    return true;
  }
  const bool memory = absl::IsResourceExhausted(run.status());
  FailJob(job, MakeFailure(memory ? "OUT_OF_MEMORY" : "INVALID_SPEC",
                           memory ? v1::Failure::PLATFORM : v1::Failure::USER,
                           absl::StrCat(run.status().message(),
                                        memory ? absl::StrCat("; plan: ", job.plan.Text()) : "")));
  return false;
}

bool JobEngine::Restore(Job& job) {
  PreparedJob& prepared = *job.prepared;
  if (prepared.checkpoint.empty()) return true;
  const std::string& numerics_class = job.run->identity().numerics_class;
  std::string was;
  const auto adopted = Adopt(prepared.checkpoint, numerics_class, &was);
  const absl::Status status =
      adopted.ok() ? job.run->RestoreCheckpoint(*adopted) : adopted.status();
  if (!status.ok()) {
    FailJob(job, MakeFailure("WORKER_ERROR", v1::Failure::PLATFORM,
                             absl::StrCat("cannot go on from the checkpoint: ", status.message())));
    return false;
  }
  if (was != numerics_class) {
    events_.OnLog(job.key, v1::JobEvent::WARNING,
                  absl::StrCat("the checkpoint was made in numerics class ", was,
                               ", and training goes on in ", numerics_class,
                               ": the result is no longer exact"));
  }
  prepared.checkpoint = std::string();  // As large as the adapter, thrice.
  job.last_point = prepared.last_step;
  job.checkpoint_step = job.run->step();
  return true;
}

bool JobEngine::Join(Job& job) {
  const absl::StatusOr<TrainingBase*> base = BaseOf(*job.prepared);
  if (!base.ok()) {
    FailJob(job, MakeFailure("BASE_MODEL_INVALID", v1::Failure::PLATFORM,
                             std::string(base.status().message())));
    return false;
  }
  job.base = *base;
  return MakeRun(job) && Restore(job);
}

void JobEngine::OnPrepared(const AttemptKey& key, Preparation preparation) {
  Job* job = Find(key);
  if (job == nullptr) return;  // Stopped meanwhile.
  if (preparation.job == nullptr) {
    FailJob(*job, std::move(preparation.failure));
    return;
  }
  job->prepared = std::move(preparation.job);
  if (!Join(*job)) return;
  LogInfo("job joins", {{"job", key.job},
                        {"attempt", key.attempt_id},
                        {"step", job->run->step()},
                        {"memory_plan", job->plan.Text()}});
  job->step_began_at = job->step_ended_at = clock_.Monotonic();
  job->steps_seen = job->run->step();
  events_.OnTraining(key, job->run->step());
  AtStepEnd(*job);
}

}  // namespace deltaworks::services
