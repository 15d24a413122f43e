#include "scheduler/testing/harness.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "scheduler/explain.h"
#include "scheduler/job_record.h"
#include "scheduler/version_request.h"

namespace deltaworks::scheduler {

std::string FakeDigest(int64_t seed) { return absl::StrFormat("sha256:%064x", seed); }

std::string JobName(const std::string& job_id) { return absl::StrCat("tenants/t/jobs/", job_id); }

v1::CreateJobRequest MakeCreateRequest(const std::string& job_id) {
  v1::CreateJobRequest request;
  request.set_parent("tenants/t");
  request.set_job_id(job_id);
  v1::TrainSpec& train = *request.mutable_job()->mutable_train();
  train.set_base_model("tenants/t/baseModels/base");
  train.set_dataset("tenants/t/datasets/data");
  return request;
}

v1::ValidateTrainingResponse MakeValidation() {
  v1::ValidateTrainingResponse response;
  v1::TrainFacts& facts = *response.mutable_facts();
  facts.set_base_manifest_digest(FakeDigest(1));
  facts.set_dataset_manifest_digest(FakeDigest(2));
  facts.set_total_steps(100);
  facts.set_train_examples(800);
  facts.set_trainable_parameters(4608);
  facts.set_total_parameters(32768);
  return response;
}

v1::TrainFacts MakeSharingFacts(int64_t step_tokens) {
  v1::TrainFacts facts = MakeValidation().facts();
  facts.set_step_tokens(step_tokens);
  v1::MemoryNeed& memory = *facts.mutable_memory();
  memory.set_base_bytes(1 << 20);
  memory.set_own_bytes(1 << 10);
  memory.set_rows(step_tokens);
  memory.set_row_bytes(1 << 10);
  facts.set_memory_bytes_max(memory.base_bytes() + memory.own_bytes() +
                             memory.rows() * memory.row_bytes());
  return facts;
}

v1::MetricPoint MakePoint(int64_t step, double loss) {
  v1::MetricPoint point;
  point.set_step(step);
  point.set_loss(loss);
  point.set_tokens(step * 10);
  return point;
}

FakeWorker::FakeWorker(const std::string& id) : name(absl::StrCat("workers/", id)) {
  environment.set_numerics_class("cpu-avx2-f32");
  environment.set_device("cpu:0");
  environment.set_device_kind("cpu");
  environment.set_memory_bytes(int64_t{8} << 30);
}

Harness::Harness(Options options_in)
    : options(std::move(options_in)), now(absl::FromUnixSeconds(1'000'000)) {
  Restart();
}

absl::StatusOr<Scheduler::Result> Harness::Execute(const Command& command) {
  return scheduler->Execute(command, now, [this] { return random_(); });
}

std::string Harness::Submit(const std::string& job_id) { return Submit(MakeCreateRequest(job_id)); }

std::string Harness::Submit(const v1::CreateJobRequest& request) {
  return Submit(request, MakeValidation().facts());
}

std::string Harness::Submit(const v1::CreateJobRequest& request, const v1::TrainFacts& facts) {
  const auto created = Execute(request);
  CHECK(created.ok()) << created.status();
  ValidationAnswer answer{.job = created->job, .response = MakeValidation()};
  *answer.response.mutable_facts() = facts;
  CHECK(Execute(answer).ok());
  Tick();
  return created->job;
}

absl::Status Harness::Cancel(const std::string& job) {
  v1::CancelJobRequest request;
  request.set_name(job);
  const absl::Status status = Execute(request).status();
  Tick();
  return status;
}

absl::Status Harness::Pause(const std::string& job) {
  v1::PauseJobRequest request;
  request.set_name(job);
  const absl::Status status = Execute(request).status();
  Tick();
  return status;
}

absl::Status Harness::Resume(const std::string& job) {
  v1::ResumeJobRequest request;
  request.set_name(job);
  const absl::Status status = Execute(request).status();
  Tick();
  return status;
}

void Harness::AnswerVersion(const std::string& job) {
  v1::AdapterVersion version;
  version.set_name(absl::StrCat(Record(job).job().train().adapter(), "/versions/1"));
  version.set_state(v1::AdapterVersion::READY);
  version.set_manifest_digest(Record(job).job().status().result().manifest_digest());
  CHECK(Execute(VersionAnswer{.job = job, .version = version}).ok());
  Tick();
}

absl::Status Harness::Sync(FakeWorker* worker, const std::vector<v1::AttemptReport>& attempts) {
  v1::SyncRequest report;
  report.set_worker(worker->name);
  report.set_incarnation(worker->incarnation);
  report.set_report_number(++worker->report_number);
  *report.mutable_environment() = worker->environment;
  report.set_draining(worker->draining);
  for (const v1::PassTime& time : worker->pass_times) *report.add_pass_times() = time;
  for (const v1::AttemptReport& attempt : attempts) *report.add_attempts() = attempt;
  worker->answer.Clear();
  const auto received = scheduler->ReceiveSync(report, now, [this] { return random_(); });
  if (!received.ok()) return received.status();
  Tick();
  worker->answer = scheduler->AnswerSync(report, now).response;
  scheduler->SyncAnswered(report, worker->answer, now);
  return absl::OkStatus();
}

v1::AttemptReport Harness::Report(const v1::Assignment& assignment, v1::AttemptReport::Phase phase,
                                  int64_t step) {
  v1::AttemptReport report;
  report.set_job(assignment.job());
  report.set_lease_epoch(assignment.lease_epoch());
  report.set_attempt_id(assignment.attempt_id());
  report.set_phase(phase);
  report.set_step(step);
  return report;
}

std::vector<std::string> Harness::WantVersions() const {
  std::vector<std::string> jobs;
  for (const std::string& job : scheduler->state()->finalizing()) {
    if (WantsVersion(*scheduler->state()->FindJob(job))) jobs.push_back(job);
  }
  return jobs;
}

void Harness::Advance(absl::Duration duration) {
  now += duration;
  Tick();
}

void Harness::Tick() {
  int calls = 0;
  do {
    CHECK_LT(++calls, 1'000) << "the plan does not come to an end";
    due = scheduler->Tick(now, [this] { return random_(); });
  } while (due.more);
  Commit();
}

void Harness::Commit() {
  if (!scheduler->loaded()) return;
  for (Event& event : scheduler->TakeEvents()) {
    archive.Fold(event);
    log.push_back(std::move(event));
  }
  scheduler->Committed(static_cast<int64_t>(log.size()), now);
}

std::unique_ptr<State> Harness::ReplayLog() const {
  auto state = std::make_unique<State>(options);
  for (const Event& event : log) {
    const absl::Status folded = state->Fold(event);
    CHECK(folded.ok()) << folded;
  }
  return state;
}

void Harness::Restart() {
  scheduler = std::make_unique<Scheduler>(options, &archive, now);
  Reload();
}

void Harness::Reload() {
  scheduler->Unload();
  scheduler->Load(ReplayLog(), now);
  Commit();
}

const JobRecord& Harness::Record(const std::string& job) const {
  const JobRecord* record = scheduler->state()->FindJob(job);
  CHECK(record != nullptr) << job;
  return *record;
}

v1::JobState Harness::StateOfJob(const std::string& job) const { return StateOf(Record(job)); }

v1::Waiting Harness::WaitingOf(const std::string& job) const {
  return Explainer(*scheduler->state(), scheduler->fleet(), options, now)
      .Show(Record(job))
      .status()
      .waiting();
}

std::vector<v1::JobEvent> Harness::Shown(const std::string& job) const {
  std::vector<v1::JobEvent> shown;
  for (const Event& event : log) {
    if (event.job() == job && event.has_shown()) shown.push_back(event.shown());
  }
  return shown;
}

std::string Harness::ReplayedBytes() const { return DeterministicBytes(ReplayLog()->ToSnapshot()); }

std::string Harness::LiveBytes() const {
  return DeterministicBytes(scheduler->state()->ToSnapshot());
}

}  // namespace deltaworks::scheduler
