#include "tests/simulation/users.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"
#include "tests/simulation/job_content.h"

namespace deltaworks::simulation {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

bool AnswersNoJob(const scheduler::Command& command) {
  return std::holds_alternative<v1::DeleteJobRequest>(command) ||
         std::holds_alternative<v1::SetQuotaRequest>(command) ||
         std::holds_alternative<v1::SetWorkerModeRequest>(command);
}

void Execute(services::SchedulerCore& core, const scheduler::Command& command,
             std::function<void(const absl::StatusOr<v1::Job>&)> reply) {
  if (!AnswersNoJob(command)) return core.Change(command, std::move(reply));
  core.ChangeThenRead(command, [reply](absl::StatusOr<services::CommittedView> view) {
    if (!view.ok()) return reply(view.status());
    reply(v1::Job());
  });
}

}  // namespace

void Users::Send(const scheduler::Command& command, const Reply& reply) {
  auto open = std::make_shared<bool>(true);
  const auto finish = [open, reply](const absl::StatusOr<v1::Job>& job) {
    if (std::exchange(*open, false)) reply(job);
  };
  Network& network = platform_.network();
  Slot<SchedulerProcess>& scheduler = platform_.scheduler();
  network.Send(kUsers, kScheduler, [&network, &scheduler, command, finish] {
    if (scheduler == nullptr || scheduler->dead()) {
      return finish(absl::UnavailableError("simulated: connection refused"));
    }
    scheduler->loop().Post([&network, scheduler = scheduler.get(), command, finish] {
      Execute(scheduler->core(), command, [&network, finish](const absl::StatusOr<v1::Job>& job) {
        network.Send(kScheduler, kUsers, [finish, job] { finish(job); });
      });
    });
  });
  platform_.timeline().After(kPatience,
                             [finish] { finish(absl::UnavailableError("simulated: no answer")); });
}

void Users::Ask(const scheduler::Command& command, const Reply& reply) {
  ++open_;
  Send(command, [this, command, reply](const absl::StatusOr<v1::Job>& job) {
    --open_;
    const bool again = absl::IsUnavailable(job.status()) || absl::IsResourceExhausted(job.status());
    if (!again) return reply(job);
    ++open_;
    const absl::Duration next = platform_.timeline().now() + absl::Seconds(2);
    platform_.timeline().At(std::max(next, rest_until_), [this, command, reply] {
      --open_;
      Ask(command, reply);
    });
  });
}

std::string Users::NewRequestId() { return absl::StrCat("request-", ++last_request_); }

// ---- Submitting ----

void Users::SubmitWithin(int jobs, absl::Duration time) {
  for (int i = 0; i < jobs; ++i) {
    platform_.timeline().After(platform_.random().Between(absl::ZeroDuration(), time),
                               [this] { Submit(); });
  }
}

v1::Timing Users::SomeTiming() {
  SeededRandom& random = platform_.random();
  const absl::Time now = absl::FromUnixSeconds(1'704'067'200) + platform_.timeline().now();
  v1::Timing timing;
  if (Chance(0.5)) {
    *timing.mutable_start_after() =
        scheduler::ToProto(now + random.Between(absl::Seconds(1), absl::Seconds(60)));
  }
  if (Chance(0.3)) {
    *timing.mutable_deadline() =
        scheduler::ToProto(now + random.Between(absl::Seconds(60), absl::Minutes(20)));
  }
  if (Chance(0.3)) {
    *timing.mutable_time_limit() =
        scheduler::ToProto(random.Between(absl::Seconds(5), absl::Minutes(5)));
  }
  return timing;
}

void Users::Submit() {
  SeededRandom& random = platform_.random();
  const std::string tenant = absl::StrCat("tenants/t", random.Below(kTenants));
  v1::CreateJobRequest request;
  request.set_parent(tenant);
  request.set_job_id(absl::StrCat("job-", ++last_job_));
  request.set_request_id(NewRequestId());
  v1::Job& job = *request.mutable_job();
  job.set_priority_class(static_cast<v1::PriorityClass>(1 + random.Below(3)));
  job.mutable_placement()->set_cohort(static_cast<v1::Placement::Cohort>(random.Below(4)));
  if (Chance(0.04)) {
    job.mutable_placement()->set_gang_size(2 + static_cast<int32_t>(random.Below(3)));
    job.mutable_placement()->set_cohort(v1::Placement::COHORT_ALONE);
  }
  job.mutable_retry_policy()->set_max_retries(Chance(0.8) ? -1 : 5);
  if (Chance(0.1)) *job.mutable_timing() = SomeTiming();
  v1::TrainSpec& train = *job.mutable_train();
  train.set_base_model(tenant + "/baseModels/base");
  const char* const kind = Chance(0.01)    ? kBadDataset
                           : Chance(0.01)  ? kDivergingDataset
                           : Chance(0.003) ? kDeadlyDataset
                                           : "-good";
  train.set_dataset(absl::StrCat(tenant, "/datasets/data", kind));
  train.mutable_arguments()->set_max_steps(2 + random.Below(7));
  // Some adapters get a version of many jobs.
  if (Chance(0.2)) train.set_adapter(absl::StrCat(tenant, "/adapters/shared-", random.Below(5)));
  Ask(request, [this, timed = job.has_timing()](const absl::StatusOr<v1::Job>& answer) {
    // Its deadline may be over when it arrives, or the scheduler's clock far ahead.
    if (timed && absl::IsInvalidArgument(answer.status())) return;
    if (!answer.ok()) {
      return platform_.witness().Violation(
          absl::StrCat("a job was refused: ", answer.status().ToString()));
    }
    platform_.witness().Accepted(answer->name());
    jobs_.push_back(answer->name());
  });
}

// ---- Changing ----

void Users::Fidget() {
  if (calm_) return;
  if (!jobs_.empty() && Chance(0.5)) ChangeSomething();
  if (!jobs_.empty() && Chance(0.2)) DeleteSomething();
  if (Chance(0.03)) SetQuota();
  if (Chance(0.05)) {
    v1::SetWorkerModeRequest request;
    request.set_worker(absl::StrCat("workers/w", platform_.random().Below(platform_.workers())));
    request.set_mode(static_cast<v1::WorkerMode>(1 + platform_.random().Below(3)));
    Ask(request, [](const absl::StatusOr<v1::Job>&) {});
  }
  const absl::Duration next = platform_.timeline().now() + absl::Seconds(1);
  platform_.timeline().At(std::max(next, rest_until_), [this] { Fidget(); });
}

void Users::ChangeSomething() {
  SeededRandom& random = platform_.random();
  // Of the newest, which may still run.
  const auto count = static_cast<int64_t>(jobs_.size());
  const std::string& name = jobs_[count - 1 - random.Below(std::min<int64_t>(count, 100))];
  const auto ask = [&](auto request) {
    request.set_name(name);
    request.set_request_id(NewRequestId());
    // Refusals are part of the game.
    Ask(request, [](const absl::StatusOr<v1::Job>&) {});
  };
  const int64_t what = random.Below(10);
  if (what == 0) return ask(v1::CancelJobRequest());
  if (what < 4) return ask(v1::PauseJobRequest());
  if (what < 8) return ask(v1::ResumeJobRequest());
  v1::UpdateJobRequest request;
  if (Chance(0.7)) request.set_priority_class(static_cast<v1::PriorityClass>(1 + random.Below(3)));
  if (Chance(0.3)) *request.mutable_timing() = SomeTiming();
  ask(request);
}

void Users::DeleteSomething() {
  v1::DeleteJobRequest request;
  request.set_name(jobs_[platform_.random().Below(static_cast<int64_t>(jobs_.size()))]);
  request.set_request_id(NewRequestId());
  platform_.witness().DeletionAsked(request.name());
  // One that has not ended stays.
  Ask(request, [this, name = request.name()](const absl::StatusOr<v1::Job>& answer) {
    if (answer.ok()) platform_.witness().Deleted(name);
  });
}

void Users::SetQuota() {
  SeededRandom& random = platform_.random();
  v1::SetQuotaRequest request;
  v1::Quota& quota = *request.mutable_quota();
  quota.set_name(absl::StrCat("tenants/t", random.Below(kTenants), "/quota"));
  quota.set_weight(1 + static_cast<double>(random.Below(4)));
  if (!calm_) {
    quota.set_guaranteed_devices(random.Below(10));
    if (Chance(0.7)) quota.set_limit_devices(10 + random.Below(platform_.workers()));
  }
  request.set_force(true);
  Ask(request, [](const absl::StatusOr<v1::Job>&) {});
}

void Users::Calm() {
  calm_ = true;
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    v1::SetQuotaRequest request;
    request.mutable_quota()->set_name(absl::StrCat("tenants/t", tenant, "/quota"));
    request.mutable_quota()->set_weight(1);
    request.set_force(true);
    Ask(request, [](const absl::StatusOr<v1::Job>&) {});
  }
  for (int worker = 0; worker < platform_.workers(); ++worker) {
    v1::SetWorkerModeRequest request;
    request.set_worker(absl::StrCat("workers/w", worker));
    request.set_mode(v1::WORKER_ACTIVE);
    Ask(request, [](const absl::StatusOr<v1::Job>&) {});
  }
  ResumePaused();
}

void Users::ResumePaused() {
  for (const std::string& name : jobs_) {
    const scheduler::JobRecord* const record = platform_.witness().state().FindJob(name);
    if (record == nullptr || StateOf(*record) != v1::PAUSED) continue;
    v1::ResumeJobRequest request;
    request.set_name(name);
    request.set_request_id(NewRequestId());
    Ask(request, [](const absl::StatusOr<v1::Job>&) {});
  }
  const absl::Duration next = platform_.timeline().now() + absl::Seconds(30);
  platform_.timeline().At(std::max(next, rest_until_), [this] { ResumePaused(); });
}

}  // namespace deltaworks::simulation
