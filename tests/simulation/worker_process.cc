#include "tests/simulation/worker_process.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "services/scheduler/sync_check.h"
#include "services/worker/store_publisher.h"
#include "tests/simulation/job_content.h"
#include "trainer/base/sha256.h"

namespace deltaworks::simulation {
namespace {

constexpr int kLiesMax = 4;

v1::WorkerEnvironment Environment() {
  v1::WorkerEnvironment environment;
  environment.set_numerics_class(kNumericsClass);
  environment.set_gang_size_max(4);
  environment.set_gang_address("simulated:1");
  environment.set_device("cpu:0");
  environment.set_device_kind("cpu");
  environment.set_memory_bytes(int64_t{6} << 30);
  return environment;
}

// Twice more after the first try, which takes some time. Counts instead of measuring time, because
// the real waits are random.
services::TransferOptions Patience(Process& process) {
  constexpr int kPausesMax = 2;
  auto pauses = std::make_shared<int>(0);
  services::TransferOptions options;
  options.retry.monotonic = [&process, pauses] {
    return process.dead() || *pauses >= kPausesMax ? absl::InfiniteDuration()
                                                   : absl::ZeroDuration();
  };
  options.retry.sleep = [&process, pauses](absl::Duration) {
    ++*pauses;
    process.Sleep(absl::Milliseconds(300));
  };
  return options;
}

}  // namespace

// ---- SimulatedChannel ----

void SimulatedChannel::Send(const v1::SyncRequest& request, absl::Duration timeout, Done done) {
  GiveUp();
  auto sync = std::make_shared<Sync>();
  sync->worker = request.worker();
  sync->sent_at = process_.machine().Monotonic();
  sync->done = std::move(done);
  sync_ = sync;
  auto sent = std::make_shared<v1::SyncRequest>(request);
  if (network_.random().Chance(lie_rate_)) Lie(*sent);
  auto loop = process_.shared_loop();
  network_.Send(address_, kScheduler, [this, loop, sync, sent, &scheduler = scheduler_] {
    if (!loop->dead()) return Arrive(sync, sent);
    // It is from a process that is no more.
    if (scheduler == nullptr || scheduler->dead()) return;
    scheduler->loop().Post([scheduler = scheduler.get(), sent] {
      services::SchedulerCore& core = scheduler->core();
      core.ReceiveSync(core.NewId(), *sent, [](absl::StatusOr<v1::SyncResponse>) {});
    });
  });
  process_.timeline().After(timeout, [this, loop, sync] {
    if (!loop->dead()) Finish(*sync, absl::DeadlineExceededError("simulated: no answer"));
  });
}

void SimulatedChannel::Arrive(const std::shared_ptr<Sync>& sync,
                              std::shared_ptr<const v1::SyncRequest> request) {
  auto loop = process_.shared_loop();
  // The scheduler may answer a process that is no more.
  const auto answer = [this, loop, sync, &network = network_,
                       address = address_](absl::StatusOr<v1::SyncResponse> response) {
    network.Send(kScheduler, address, [this, loop, sync, response = std::move(response)] {
      if (!loop->dead()) Finish(*sync, response);
    });
  };
  if (scheduler_ == nullptr || scheduler_->dead()) {
    return answer(absl::UnavailableError("simulated: connection refused"));
  }
  scheduler_->loop().Post(
      [scheduler = scheduler_.get(), sync, request = std::move(request), answer] {
        if (absl::Status status = services::CheckSync(*request); !status.ok())
          return answer(status);
        services::SchedulerCore& core = scheduler->core();
        // A repeated message is a call of its own.
        const int64_t id = core.NewId();
        if (sync->id == 0) sync->id = id;
        core.ReceiveSync(id, *request, answer);
      });
}

void SimulatedChannel::Finish(Sync& sync, absl::StatusOr<v1::SyncResponse> answer) {
  if (sync.done == nullptr) return;
  if (answer.ok()) {
    const absl::Duration sent_ago = process_.machine().Monotonic() - sync.sent_at;
    witness_.Answered(
        sync.worker, *answer,
        process_.timeline().now() - sent_ago + scheduler::FromProto(answer->lease_duration()));
    for (const v1::Assignment& assignment : answer->assignments()) {
      if (assignment.result_accepted()) accepted_.insert(assignment.attempt_id());
    }
  }
  std::exchange(sync.done, nullptr)(std::move(answer));
}

void SimulatedChannel::GiveUp() {
  if (sync_ == nullptr || sync_->done == nullptr) return;
  Finish(*sync_, absl::CancelledError("simulated: given up"));
  network_.Send(address_, kScheduler, [sync = sync_, &scheduler = scheduler_] {
    if (sync->id == 0 || scheduler == nullptr || scheduler->dead()) return;
    scheduler->loop().Post(
        [scheduler = scheduler.get(), sync] { scheduler->core().DropSync(sync->id); });
  });
}

void SimulatedChannel::Break() {
  if (sync_ != nullptr) Finish(*sync_, absl::UnavailableError("simulated: connection reset"));
}

void SimulatedChannel::Lie(v1::SyncRequest& request) {
  SeededRandom& random = network_.random();
  absl::flat_hash_set<std::string> said;
  for (v1::AttemptReport& report : *request.mutable_attempts()) {
    said.insert(report.attempt_id());
    if (!accepted_.contains(report.attempt_id())) continue;
    counts_.Count("lie: another result");
    report.set_phase(v1::AttemptReport::DONE);
    report.mutable_result()->set_manifest_digest(Sha256Digest("a lie"));
    report.mutable_result()->set_step(1);
  }
  const auto& ids = witness_.attempt_ids();
  for (int i = 0; i < kLiesMax && !ids.empty(); ++i) {
    const std::string& id = ids[random.Below(static_cast<int64_t>(ids.size()))];
    const Witness::Attempt& attempt = witness_.attempts().at(id);
    // Of its own it could tell the truth by chance.
    if (attempt.holders.contains(request.worker())) continue;
    if (!said.insert(id).second) continue;
    counts_.Count(attempt.ended ? "lie: an attempt that is over" : "lie: another's attempt");
    v1::AttemptReport& report = *request.add_attempts();
    report.set_job(attempt.job);
    report.set_attempt_id(id);
    report.set_lease_epoch(attempt.lease_epoch + (random.Chance(0.3) ? 1 : 0));
    report.set_phase(static_cast<v1::AttemptReport::Phase>(1 + random.Below(6)));
    report.set_step(random.Below(10));
    report.mutable_checkpoint()->set_step(1 + random.Below(3));
    report.mutable_checkpoint()->set_manifest_digest(Sha256Digest("a lie"));
    report.mutable_result()->set_manifest_digest(Sha256Digest("a lie"));
    report.mutable_result()->set_step(1);
    report.set_first_metric_n(1);
    *report.add_metrics() = PointOf(random.Bits(), 1);
  }
}

// ---- FiberPublisher ----

void FiberPublisher::Publish(const std::string& job,
                             std::shared_ptr<const services::Artifact> artifact, Done done) {
  Run([this, job, artifact = std::move(artifact), done = std::move(done)]() mutable {
    absl::Status status = services::PublishArtifact(store_, job, *artifact, Patience(process_));
    process_.loop().Post([done = std::move(done), status = std::move(status)]() mutable {
      done(std::move(status));
    });
  });
}

void FiberPublisher::ReadBack(const std::string& job,
                              std::shared_ptr<const services::Artifact> artifact, ReadDone done) {
  Run([this, job, artifact = std::move(artifact), done = std::move(done)]() mutable {
    absl::StatusOr<AdapterBytes> bytes =
        services::ReadBackAdapter(store_, job, *artifact, Patience(process_));
    process_.loop().Post(
        [done = std::move(done), bytes = std::move(bytes)]() mutable { done(std::move(bytes)); });
  });
}

void FiberPublisher::Run(absl::AnyInvocable<void()> work) {
  work_.push_back(std::move(work));
  if (std::exchange(working_, true)) return;
  process_.Spawn([this] {
    while (!work_.empty() && !process_.dead()) {
      absl::AnyInvocable<void()> next = std::move(work_.front());
      work_.pop_front();
      next();
    }
    working_ = false;
  });
}

// ---- WorkerProcess ----

WorkerProcess::WorkerProcess(const World& world, Machine& machine, int address, std::string name,
                             int64_t incarnation, std::function<void()> on_end)
    : Process(world.timeline, machine),
      name_(std::move(name)),
      on_end_(std::move(on_end)),
      store_(*this, world.network, address, world.store),
      channel_(*this, world.network, address, world.scheduler, world.witness, world.counts),
      publisher_(*this, store_),
      trainer_(*this, store_, world.random, MakeHooks(world.witness)),
      core_({.worker = name_, .incarnation = incarnation, .environment = Environment()}, machine,
            loop(), channel_, trainer_, publisher_, world.metrics,
            [this](absl::Status) { on_end_(); }) {
  trainer_.SetEvents(core_);
  store_.around = [this, &world_counts = world.counts](bool after, bool) {
    if (after || die_in_calls_ == 0 || --die_in_calls_ > 0) return;
    world_counts.Count("worker dies at a call");
    on_end_();
  };
}

SimulatedTrainer::Hooks WorkerProcess::MakeHooks(Witness& witness) {
  return {
      .on_start = [this,
                   &witness](const services::AttemptKey& key) { witness.Started(name_, key); },
      .on_step = [this, &witness](const services::AttemptKey& key) { witness.Step(name_, key); },
      .on_gone = [this,
                  &witness](const services::AttemptKey& key) { witness.Released(name_, key); },
      .die = [this] { on_end_(); },
      .violation = [&witness](const std::string& what) { witness.Violation(what); }};
}

void WorkerProcess::Drain() {
  loop().Post([this] { core_.Drain([this] { on_end_(); }); });
}

}  // namespace deltaworks::simulation
