#include "services/scheduler/testing/core_world.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/job_lists.h"

namespace deltaworks::services {

CoreWorld::CoreWorld(const std::string& name, SchedulerCore::Options options,
                     SqliteEventStore::Options events)
    : options_(std::move(options)), event_options_(std::move(events)) {
  event_options_.path = absl::StrCat(::testing::TempDir(), "/", name, ".db");
  for (const char* suffix : {"", "-wal", "-shm"}) unlink((event_options_.path + suffix).c_str());
  store.SetValidator([](const v1::ValidateTrainingRequest& request) {
    v1::ValidateTrainingResponse response = scheduler::MakeValidation();
    *response.mutable_spec() = request.spec();
    return response;
  });
  Begin();
}

void CoreWorld::Begin() {
  prometheus = std::make_unique<Metrics>("scheduler");
  metrics = std::make_unique<SchedulerMetrics>(*prometheus);
  auto opened = SqliteEventStore::Open(event_options_);
  CHECK(opened.ok()) << opened.status();
  events = std::make_unique<FaultyEventStore>(*std::move(opened));
  core = std::make_unique<SchedulerCore>(options_, clock, loop, pool, *events, store, registry,
                                         *metrics);
  const absl::Status started = core->Start();
  CHECK(started.ok()) << started;
  loop.RunReady();
}

void CoreWorld::Restart(bool kill) {
  // What a killed process had folded and not stored is lost.
  if (kill) events->FailAppends(FaultyEventStore::Fault::kLost, 1 << 20);
  core->Stop();
  loop.RunReady();
  core.reset();
  events.reset();
  Begin();
}

absl::StatusOr<v1::Job> CoreWorld::Change(const scheduler::Command& command) {
  std::optional<absl::StatusOr<v1::Job>> result;
  core->Change(command, [&](absl::StatusOr<v1::Job> job) { result = std::move(job); });
  loop.RunReady();
  CHECK(result.has_value()) << "a change was not answered";
  return *result;
}

std::string CoreWorld::Submit(const std::string& job_id) {
  const auto job = Change(scheduler::MakeCreateRequest(job_id));
  CHECK(job.ok()) << job.status();
  return job->name();
}

absl::StatusOr<v1::Job> CoreWorld::Cancel(const std::string& job) {
  v1::CancelJobRequest request;
  request.set_name(job);
  return Change(request);
}

absl::StatusOr<v1::Job> CoreWorld::Pause(const std::string& job) {
  v1::PauseJobRequest request;
  request.set_name(job);
  return Change(request);
}

absl::StatusOr<v1::Job> CoreWorld::Resume(const std::string& job) {
  v1::ResumeJobRequest request;
  request.set_name(job);
  return Change(request);
}

absl::Status CoreWorld::Delete(const std::string& job, const std::string& request_id) {
  v1::DeleteJobRequest request;
  request.set_name(job);
  request.set_request_id(request_id);
  std::optional<absl::Status> result;
  core->ChangeThenRead(request,
                       [&](const absl::StatusOr<CommittedView>& view) { result = view.status(); });
  loop.RunReady();
  CHECK(result.has_value()) << "a deletion was not answered";
  return *result;
}

absl::StatusOr<v1::Job> CoreWorld::Get(const std::string& job) {
  std::optional<absl::StatusOr<v1::Job>> result;
  core->Read([&](absl::StatusOr<CommittedView> view) {
    if (!view.ok()) {
      result = view.status();
      return;
    }
    const auto record = FindJob(*view, job);
    result = record.ok() ? absl::StatusOr<v1::Job>(view->Show(**record)) : record.status();
  });
  loop.RunReady();
  return *result;
}

std::vector<v1::JobEvent> CoreWorld::Events(const std::string& job) {
  auto read = events->ReadEvents(job, 0, {.count_max = 1 << 20, .bytes_max = 1 << 30});
  CHECK(read.ok()) << read.status();
  return *std::move(read);
}

std::vector<v1::MetricPoint> CoreWorld::Points(const std::string& job) {
  auto read = events->ReadMetrics(job, 0, {.count_max = 1 << 20, .bytes_max = 1 << 30});
  CHECK(read.ok()) << read.status();
  return *std::move(read);
}

SyncAnswer CoreWorld::Sync(ScriptedWorker& worker, bool with_news) {
  auto answer = std::make_shared<std::optional<absl::StatusOr<v1::SyncResponse>>>();
  core->ReceiveSync(
      core->NewId(), worker.NextReport(with_news),
      [answer](absl::StatusOr<v1::SyncResponse> response) { *answer = std::move(response); });
  loop.RunReady();
  Take(answer, worker);
  return answer;
}

void CoreWorld::Take(const SyncAnswer& answer, ScriptedWorker& worker) {
  if (answer->has_value() && (*answer)->ok()) worker.TakeAnswer(***answer);
}

void CoreWorld::Finish(ScriptedWorker& worker, int64_t steps_per_second) {
  Sync(worker);
  for (int i = 0; i < 1000 && !worker.idle(); ++i) {
    worker.Train(steps_per_second);
    Advance(absl::Seconds(1));
    Sync(worker);
  }
}

double CoreWorld::Metric(const std::string& name_and_labels) const {
  const std::string text = prometheus->Text();
  const size_t begin = text.find("\n" + name_and_labels + " ");
  CHECK(begin != std::string::npos) << name_and_labels << " is not in\n" << text;
  return std::strtod(text.c_str() + begin + name_and_labels.size() + 2, nullptr);
}

}  // namespace deltaworks::services
