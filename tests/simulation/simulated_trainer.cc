#include "tests/simulation/simulated_trainer.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/clients/blob_transfer.h"
#include "tests/simulation/job_content.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::simulation {

using services::Artifact;
using services::AttemptKey;
using services::TrainerEvents;

SimulatedTrainer::Run* SimulatedTrainer::Find(const AttemptKey& key) {
  const auto found = runs_.find(key.attempt_id);
  return found == runs_.end() ? nullptr : &found->second;
}

void SimulatedTrainer::Start(const AttemptKey& key, const v1::TrainTask& task) {
  hooks_.on_start(key);
  Run& run = runs_[key.attempt_id];
  run.key = key;
  run.task = task;
  process_.Spawn([this, key] { Prepare(key); });
}

absl::StatusOr<uint64_t> SimulatedTrainer::ReadCheckpoint(const AttemptKey& key,
                                                          const v1::Checkpoint& checkpoint) {
  v1::GetManifestRequest request;
  request.set_parent(services::TenantName(services::TenantOf(key.job)));
  request.set_digest(checkpoint.manifest_digest());
  request.set_reference(key.job);
  const auto manifest = store_.GetManifest(request);
  if (!manifest.ok()) return manifest.status();
  const v1::ManifestFile* const file = services::FindFile(*manifest, services::kCheckpointFile);
  if (file == nullptr || manifest->step() != checkpoint.step()) {
    return absl::DataLossError("the manifest is not that of the checkpoint");
  }
  services::TransferOptions once;
  once.retry.total_max = absl::ZeroDuration();
  const auto bytes = services::DownloadBytes(
      store_, {std::string(services::TenantOf(key.job)), key.job}, file->digest(), 1 << 20, once);
  if (!bytes.ok()) return bytes.status();
  return ParseCheckpoint(*bytes);
}

void SimulatedTrainer::Prepare(const AttemptKey& key) {
  process_.Sleep(random_.Between(absl::Milliseconds(10), absl::Milliseconds(200)));
  uint64_t state = FirstState(key.job);
  int64_t step = 0;
  while (true) {
    const Run* const run = Find(key);
    if (process_.dead() || run == nullptr || run->stops || run->leaves) break;
    if (!run->task.has_start_checkpoint()) break;
    const v1::Checkpoint checkpoint = run->task.start_checkpoint();
    const auto read = ReadCheckpoint(key, checkpoint);
    if (read.ok()) {
      state = *read;
      step = checkpoint.step();
      break;
    }
    // The store may be away; but once it answers, what was committed is there.
    const Run* const still = Find(key);
    if ((absl::IsNotFound(read.status()) || absl::IsDataLoss(read.status())) && still != nullptr &&
        !still->stops) {
      v1::Failure failure;
      failure.set_code("BLOB_CORRUPT");
      failure.set_fault(v1::Failure::PLATFORM);
      failure.set_message(std::string(read.status().message()));
      Gone(key);
      return Tell([key, failure](TrainerEvents& events) { events.OnFailed(key, failure); });
    }
    process_.Sleep(absl::Seconds(1));
  }
  Run* const run = Find(key);
  if (process_.dead() || run == nullptr) return;
  run->state = state;
  run->step = run->checkpoint_step = step;
  run->prepared = true;
  if (!run->leaves && !run->stops) {
    Tell([key, step](TrainerEvents& events) { events.OnTraining(key, step); });
  }
  Advance(*run);
}

void SimulatedTrainer::Advance(Run& run) {
  if (!run.prepared || run.stepping || run.finished) return;
  const AttemptKey key = run.key;
  if (run.stops) {
    Gone(key);
    return Tell([key](TrainerEvents& events) { events.OnLeft(key, nullptr); });
  }
  const bool is_rank_zero = run.task.gang().rank() == 0;
  if (run.step == run.task.facts().total_steps()) {
    if (is_rank_zero) return Finish(run);
    Gone(key);
    return Tell([key](TrainerEvents& events) { events.OnLeft(key, nullptr); });
  }
  const bool new_steps = is_rank_zero && run.step > run.checkpoint_step;
  if (run.leaves) {
    std::shared_ptr<const Artifact> checkpoint;
    if (new_steps) {
      checkpoint = std::make_shared<Artifact>(MakeCheckpoint(run.task, run.state, run.step));
    }
    Gone(key);
    return Tell([key, checkpoint](TrainerEvents& events) { events.OnLeft(key, checkpoint); });
  }
  if (std::exchange(run.wants_checkpoint, false) && new_steps) {
    run.checkpoint_step = run.step;
    auto checkpoint = std::make_shared<Artifact>(MakeCheckpoint(run.task, run.state, run.step));
    Tell([key, checkpoint](TrainerEvents& events) { events.OnCheckpoint(key, checkpoint); });
  }
  if (run.parked) return;
  run.stepping = true;
  // In a task of its own: a lease that ended while the machine was stopped is seen first.
  process_.loop().Post([this, key] {
    Run* const due = Find(key);
    if (due == nullptr) return;
    due->stepping = false;
    if (due->parked || due->stops || due->leaves) return Advance(*due);
    due->stepping = true;
    hooks_.on_step(key);
    const absl::Duration took = random_.Between(absl::Milliseconds(300), absl::Seconds(2));
    process_.loop().PostAfter(took, [this, key, took] { EndStep(key, took); });
  });
}

void SimulatedTrainer::EndStep(const AttemptKey& key, absl::Duration took) {
  Run* const run = Find(key);
  if (run == nullptr) return;
  run->stepping = false;
  ++run->step;
  run->state = NextState(run->state, run->step);
  run->device_time += took;
  const std::string& dataset = run->task.spec().dataset();
  if (run->step == 2 && absl::EndsWith(dataset, kDeadlyDataset)) return hooks_.die();
  if (run->step == 2 && absl::EndsWith(dataset, kDivergingDataset)) {
    v1::Failure failure;
    failure.set_code("DIVERGED");
    failure.set_fault(v1::Failure::USER);
    Gone(key);
    return Tell([key, failure](TrainerEvents& events) { events.OnFailed(key, failure); });
  }
  services::PassReport pass;
  pass.device_times.push_back({key, run->device_time});
  pass.measure =
      services::PassMeasure{.base_manifest_digest = run->task.facts().base_manifest_digest(),
                            .compute_type = v1::F32,
                            .tokens = run->task.facts().step_tokens(),
                            .duration = took};
  Tell([key, pass = std::move(pass),
        point = PointOf(run->state, run->step)](TrainerEvents& events) mutable {
    events.OnPass(pass);
    events.OnProgress(key, std::move(point));
  });
  Advance(*run);
}

void SimulatedTrainer::Finish(Run& run) {
  run.finished = true;
  services::TrainedResult result;
  result.artifact = std::make_shared<Artifact>(MakeResult(run.task, run.state));
  if (run.step > run.checkpoint_step && random_.Chance(0.3)) {
    result.checkpoint = std::make_shared<Artifact>(MakeCheckpoint(run.task, run.state, run.step));
  }
  result.adapter_digest = result.artifact->Find(trainer::kAdapterModelFile)->entry.digest();
  result.step = run.step;
  result.loss = PointOf(run.state, run.step).loss();
  hooks_.on_gone(run.key);
  Tell([key = run.key, result = std::move(result)](TrainerEvents& events) mutable {
    events.OnFinished(key, std::move(result));
  });
}

void SimulatedTrainer::TakeCheckpoint(const AttemptKey& key) {
  Run* const run = Find(key);
  if (run == nullptr) return;
  run->wants_checkpoint = true;
  Advance(*run);
}

void SimulatedTrainer::Park(const AttemptKey& key) {
  if (Run* const run = Find(key)) run->parked = true;
}

void SimulatedTrainer::Resume(const AttemptKey& key) {
  Run* const run = Find(key);
  if (run == nullptr) return;
  run->parked = false;
  Advance(*run);
}

void SimulatedTrainer::Leave(const AttemptKey& key) {
  Run* const run = Find(key);
  if (run == nullptr) return;
  run->leaves = true;
  Advance(*run);
}

void SimulatedTrainer::Stop(const AttemptKey& key) {
  Run* const run = Find(key);
  if (run == nullptr) return;
  run->stops = true;
  Advance(*run);
}

void SimulatedTrainer::Verify(const AttemptKey& key, std::string adapter_model, std::string) {
  const Run* const run = Find(key);
  if (run == nullptr) return;
  const Artifact result = MakeResult(run->task, run->state);
  const bool same = result.Find(trainer::kAdapterModelFile)->bytes == adapter_model;
  if (!same) hooks_.violation(absl::StrCat(key.job, ": the store gave other bytes back"));
  Tell([key, same](TrainerEvents& events) {
    events.OnVerified(key, same ? absl::OkStatus() : absl::DataLossError("other bytes"));
  });
}

void SimulatedTrainer::Forget(const AttemptKey& key) { runs_.erase(key.attempt_id); }

void SimulatedTrainer::Gone(const AttemptKey& key) {
  hooks_.on_gone(key);
  runs_.erase(key.attempt_id);
}

}  // namespace deltaworks::simulation
