#include "services/scheduler/asks.h"

#include <prometheus/counter.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/resource_name.h"
#include "scheduler/version_request.h"
#include "services/base/log.h"
#include "services/base/resource_names.h"

namespace deltaworks::services {
namespace {

std::string Outcome(const absl::Status& status) {
  return status.ok() ? "ok" : absl::StatusCodeToString(status.code());
}

}  // namespace

Asks::Asks(const Options& options, EventLoop& loop, CallPool& pool, StoreClient& store,
           RegistryClient& registry, std::function<void(scheduler::Command)> on_answer,
           SchedulerMetrics& metrics)
    : options_(options),
      loop_(loop),
      pool_(pool),
      store_(store),
      registry_(registry),
      on_answer_(std::move(on_answer)),
      metrics_(metrics) {}

void Asks::Start(const scheduler::State& state, absl::Time now) {
  now_ = now;
  StartKind(state.validating(), options_.validations_max, &validations_,
            [&](const std::string& job) {
              AskStore(job, *state.FindJob(job));
              return true;
            });
  StartKind(state.finalizing(), options_.versions_max, &versions_, [&](const std::string& job) {
    const scheduler::JobRecord& record = *state.FindJob(job);
    if (!scheduler::WantsVersion(record)) return false;
    AskRegistry(job, record);
    return true;
  });
}

void Asks::StartKind(const scheduler::State::Names& jobs, int64_t max, Questions* questions,
                     absl::FunctionRef<bool(const std::string& job)> ask) {
  if (questions->by_job.size() > questions->kept_max) DropSettled(jobs, questions);
  auto job = jobs.lower_bound(questions->next);
  const int64_t looks = std::min<int64_t>(static_cast<int64_t>(jobs.size()), kLooksMax);
  for (int64_t look = 0; look < looks && questions->under_way < max; ++look) {
    if (job == jobs.end()) job = jobs.begin();
    const auto known = questions->by_job.find(*job);
    const bool waits = known != questions->by_job.end() &&
                       (known->second.under_way || known->second.not_before > now_);
    if (waits || !ask(*job)) {
      if (++job == jobs.end()) questions->next.clear();
      continue;
    }
    questions->by_job[*job].under_way = true;
    ++questions->under_way;
    // The next tenant's turn: '0' comes after '/'.
    questions->next = absl::StrCat(TenantName(scheduler::TenantOf(*job)), "0");
    job = jobs.lower_bound(questions->next);
  }
  if (job != jobs.end()) questions->next = *job;
}

void Asks::DropSettled(const scheduler::State::Names& jobs, Questions* questions) const {
  // Kept until its wait is over: a question that is settled and comes up again at once, as when
  // bytes are missing each time that a worker says it brought them, is not asked without end.
  absl::erase_if(questions->by_job, [&](const auto& entry) {
    return !entry.second.under_way && entry.second.not_before <= now_ &&
           !jobs.contains(entry.first);
  });
  questions->kept_max = std::max<size_t>(kLooksMax, 2 * questions->by_job.size());
}

void Asks::AskStore(const std::string& job, const scheduler::JobRecord& record) {
  v1::ValidateTrainingRequest request;
  request.set_parent(absl::StrCat("tenants/", scheduler::TenantOf(job)));
  *request.mutable_spec() = record.job().train();
  request.set_gang_size(record.job().placement().gang_size());
  Validate(std::move(request), [this, job](absl::StatusOr<v1::ValidateTrainingResponse> answer) {
    Finished(job, &validations_);
    if (answer.ok()) {
      on_answer_(scheduler::ValidationAnswer{.job = job, .response = *std::move(answer)});
    } else {
      LogWarning("the store did not say whether a job is valid; it is asked again",
                 {{"job", job}, {"error", answer.status()}});
    }
  });
}

void Asks::Validate(
    v1::ValidateTrainingRequest request,
    absl::AnyInvocable<void(absl::StatusOr<v1::ValidateTrainingResponse>)> on_answer) {
  pool_.Run([this, request = std::move(request), on_answer = std::move(on_answer)]() mutable {
    absl::StatusOr<v1::ValidateTrainingResponse> answer = store_.ValidateTraining(request);
    loop_.Post([this, answer = std::move(answer), on_answer = std::move(on_answer)]() mutable {
      metrics_.Asks("ValidateTraining", Outcome(answer.status())).Increment();
      on_answer(std::move(answer));
    });
  });
}

void Asks::AskRegistry(const std::string& job, const scheduler::JobRecord& record) {
  pool_.Run([this, job, request = scheduler::MakeVersionRequest(record)] {
    absl::StatusOr<v1::AdapterVersion> answer = registry_.CreateVersion(request);
    loop_.Post([this, job, answer = std::move(answer)]() mutable {
      metrics_.Asks("CreateVersion", Outcome(answer.status())).Increment();
      Finished(job, &versions_);
      if (!answer.ok()) {
        LogWarning("the registry made no version of a job",
                   {{"job", job}, {"error", answer.status()}});
      }
      on_answer_(scheduler::VersionAnswer{.job = job, .version = std::move(answer)});
    });
  });
}

void Asks::Finished(const std::string& job, Questions* questions) {
  // It counts only if the job still waits: then the answer settled nothing.
  Question& question = questions->by_job[job];
  question.under_way = false;
  --questions->under_way;
  question.wait = std::clamp(question.wait * 2, options_.wait_first, options_.wait_max);
  question.not_before = now_ + question.wait;
}

}  // namespace deltaworks::services
