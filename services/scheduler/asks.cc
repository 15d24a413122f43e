#include "services/scheduler/asks.h"

#include <prometheus/counter.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "scheduler/resource_name.h"
#include "scheduler/version_request.h"
#include "services/base/log.h"

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

void Asks::Start(const std::vector<std::string>& validations,
                 const std::vector<std::string>& versions, const scheduler::State& state,
                 absl::Time now) {
  now_ = now;
  StartKind(validations, options_.validations_max, now, &validations_,
            [&](const std::string& job) { AskStore(job, *state.FindJob(job)); });
  StartKind(versions, options_.versions_max, now, &versions_,
            [&](const std::string& job) { AskRegistry(job, *state.FindJob(job)); });
}

void Asks::StartKind(const std::vector<std::string>& jobs, int64_t max, absl::Time now,
                     Questions* questions, const std::function<void(const std::string&)>& ask) {
  const absl::flat_hash_set<absl::string_view> waiting(jobs.begin(), jobs.end());
  int64_t under_way = 0;
  for (auto it = questions->begin(); it != questions->end();) {
    under_way += it->second.under_way ? 1 : 0;
    // Kept until its wait is over: a question that is settled and comes up again at once, as when
    // bytes are missing each time that a worker says it brought them, is not asked without end.
    const bool settled =
        !it->second.under_way && it->second.not_before <= now && !waiting.contains(it->first);
    it = settled ? questions->erase(it) : std::next(it);
  }
  for (const std::string& job : jobs) {
    if (under_way >= max) return;
    Question& question = (*questions)[job];
    if (question.under_way || question.not_before > now) continue;
    question.under_way = true;
    ++under_way;
    ask(job);
  }
}

void Asks::AskStore(const std::string& job, const scheduler::JobRecord& record) {
  v1::ValidateTrainingRequest request;
  request.set_parent(absl::StrCat("tenants/", scheduler::TenantOf(job)));
  *request.mutable_spec() = record.job().train();
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
  // It counts only if the core names the job again: then the answer settled nothing.
  Question& question = (*questions)[job];
  question.under_way = false;
  question.wait = std::clamp(question.wait * 2, options_.wait_first, options_.wait_max);
  question.not_before = now_ + question.wait;
}

}  // namespace deltaworks::services
