#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "tests/bench/scheduler_load/call_queue.h"
#include "tests/bench/scheduler_load/load_result.h"
#include "tests/bench/scheduler_load/loads.h"
#include "tests/bench/scheduler_load/worker_report.h"

namespace deltaworks::bench {
namespace {

constexpr absl::Duration kCallMax = absl::Seconds(60);
// Jobs that are submitted or validated at a time, and workers that join and wait for their job:
// few, so that the way to the load does not take longer than the load.
constexpr int64_t kRampMax = 64;
constexpr double kRampLookSeconds = 0.001;
// As services/worker waits at most after an error.
constexpr double kRetrySeconds = 2;
constexpr int64_t kStepsOfCheckpoint = 10;
constexpr int64_t kCheckpointBytes = 60'000'000;

struct Worker {
  std::string name;
  size_t channel = 0;
  int64_t report_number = 0;
  int64_t seen_term = 0;
  int64_t seen_revision = 0;
  CallQueue::Call* call = nullptr;
  std::optional<v1::AttemptReport> attempt;
  // When the checkpoint was first reported that no answer has acknowledged; 0: there is none.
  double news_at = 0;
};

// What is counted between Begin and End.
struct Counted {
  std::vector<double> at_once;  // From a new checkpoint's report to its acknowledgement.
  std::vector<double> late;     // Held reports: time beyond the hold.
  int64_t answers = 0;
  int64_t given_up = 0;
  int64_t lost = 0;
  std::map<std::string, int64_t> errors;
};

class FleetLoad {
 public:
  FleetLoad(const SchedulerUnderTest& scheduler, absl::Duration lease, const FleetOptions& options)
      : scheduler_(scheduler),
        options_(options),
        lease_(lease),
        workers_(static_cast<size_t>(options.workers)),
        tenant_(scheduler.ConnectTenant()),
        training_(v1::TrainingService::NewStub(tenant_.grpc)) {
    for (int64_t i = 0; i < options.channels; ++i) {
      channels_.push_back(scheduler.ConnectWorker());
      stubs_.push_back(v1::WorkerService::NewStub(channels_.back().grpc));
    }
    for (size_t i = 0; i < workers_.size(); ++i) {
      workers_[i].name = absl::StrCat("workers/bench-", i);
      workers_[i].channel = i % channels_.size();
    }
  }

  // Submits all jobs, then has the workers join, which get one each.
  void Ramp() {
    for (int64_t i = 0; i < kRampMax; ++i) SubmitNext();
    const auto queued = [this] { return scheduler_.validations() >= options_.workers; };
    const auto running = [this] { return running_ == options_.workers; };
    if (queue_.RunUntil(queued, options_.ramp_max)) {
      for (int64_t i = 0; i < kRampMax; ++i) JoinNext();
      if (queue_.RunUntil(running, options_.ramp_max)) return;
    }
    LOG(WARNING) << running_ << " of " << options_.workers << " workers have a job after "
                 << options_.ramp_max;
  }

  void Run(absl::Duration duration) { queue_.Run(duration); }
  void BeginCounting() { counted_ = Counted(); }
  const Counted& counted() const { return counted_; }
  int64_t running() const { return running_; }

 private:
  double Hold() const { return absl::ToDoubleSeconds(lease_) / 4; }

  void SubmitNext() {
    if (submitted_ == options_.workers) return;
    if (submitted_ - scheduler_.validations() >= kRampMax) {
      return queue_.At(Monotonic() + kRampLookSeconds, [this] { SubmitNext(); });
    }
    ++submitted_;
    const v1::CreateJobRequest request = NewJob();
    queue_.Start<v1::Job>(
        tenant_, kCallMax,
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return training_->PrepareAsyncCreateJob(context, request, queue);
        },
        [this](const grpc::Status& status, const v1::Job&) {
          if (!status.ok()) scheduler_.Fail(absl::StrCat("CreateJob: ", status.error_message()));
          SubmitNext();
        });
  }

  void JoinNext() {
    if (joined_ < workers_.size()) Send(workers_[joined_++]);
  }

  v1::SyncRequest MakeReport(Worker& worker) const {
    v1::SyncRequest request = NewReport(worker.name);
    request.set_report_number(++worker.report_number);
    request.set_seen_term(worker.seen_term);
    request.set_seen_revision(worker.seen_revision);
    if (!worker.attempt.has_value()) return request;
    v1::AttemptReport& report = *request.add_attempts();
    report = *worker.attempt;
    if (worker.news_at == 0) {
      report.clear_checkpoint();
      report.clear_metrics();
    }
    return request;
  }

  void Send(Worker& worker) {
    const v1::SyncRequest request = MakeReport(worker);
    const double sent_at = Monotonic();
    v1::WorkerService::Stub& stub = *stubs_[worker.channel];
    // As long as services/worker waits.
    worker.call = queue_.Start<v1::SyncResponse>(
        channels_[worker.channel], lease_ / 2,
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return stub.PrepareAsyncSync(context, request, queue);
        },
        [this, &worker, sent_at, number = worker.report_number](const grpc::Status& status,
                                                                const v1::SyncResponse& answer) {
          if (number != worker.report_number) return;  // Given up.
          worker.call = nullptr;
          if (status.ok()) return OnAnswer(worker, sent_at, answer);
          ++counted_.errors[absl::StrCat("code ", status.error_code())];
          LOG_FIRST_N(WARNING, 3) << "Sync: " << status.error_message();
          queue_.At(Monotonic() + kRetrySeconds, [this, &worker] {
            if (worker.call == nullptr) Send(worker);
          });
        });
  }

  void OnAnswer(Worker& worker, double sent_at, const v1::SyncResponse& answer) {
    const double now = Monotonic();
    ++counted_.answers;
    worker.seen_term = answer.term();
    worker.seen_revision = answer.revision();
    const bool had_news = worker.news_at != 0;
    const bool was_held = worker.attempt.has_value() && !had_news && now - sent_at >= Hold();
    if (was_held) counted_.late.push_back(now - sent_at - Hold());
    for (const v1::Assignment& assignment : answer.assignments()) Apply(worker, assignment);
    if (had_news && worker.news_at == 0) counted_.at_once.push_back(now - acknowledged_news_at_);
    Send(worker);
  }

  void Apply(Worker& worker, const v1::Assignment& assignment) {
    if (!worker.attempt.has_value() && assignment.has_train()) return Begin(worker, assignment);
    if (!worker.attempt.has_value() || worker.attempt->attempt_id() != assignment.attempt_id()) {
      return;
    }
    if (assignment.desired() != v1::Assignment::RUN) {
      LOG_FIRST_N(WARNING, 3) << worker.name << " lost its job: " << assignment.message();
      ++counted_.lost;
      --running_;
      worker.attempt.reset();
      worker.news_at = 0;
      return;
    }
    if (worker.news_at == 0 || assignment.committed_step() < worker.attempt->step()) return;
    acknowledged_news_at_ = std::exchange(worker.news_at, 0);
  }

  void Begin(Worker& worker, const v1::Assignment& assignment) {
    v1::AttemptReport& attempt = worker.attempt.emplace();
    attempt.set_job(assignment.job());
    attempt.set_lease_epoch(assignment.lease_epoch());
    attempt.set_attempt_id(assignment.attempt_id());
    attempt.set_phase(v1::AttemptReport::TRAINING);
    attempt.set_step(assignment.train().start_checkpoint().step());
    ++running_;
    JoinNext();
    // Workers began at different times; here they all do within a minute or so.
    const double interval = absl::ToDoubleSeconds(options_.checkpoint_interval);
    ArmCheckpoint(worker, std::uniform_real_distribution<double>(0, interval)(chance_));
  }

  void ArmCheckpoint(Worker& worker, double wait) {
    queue_.At(Monotonic() + wait,
              [this, &worker, id = worker.attempt->attempt_id()] { TakeCheckpoint(worker, id); });
  }

  // A new checkpoint, with the numbers of its last step, takes the place of the report that is
  // held.
  void TakeCheckpoint(Worker& worker, const std::string& attempt_id) {
    if (!worker.attempt.has_value() || worker.attempt->attempt_id() != attempt_id) return;
    ArmCheckpoint(worker, absl::ToDoubleSeconds(options_.checkpoint_interval));
    if (worker.news_at != 0) return;  // The one before waits for its answer.
    v1::AttemptReport& attempt = *worker.attempt;
    const int64_t step = attempt.step() + kStepsOfCheckpoint;
    attempt.set_step(step);
    attempt.set_tokens_per_second(1000);
    attempt.mutable_checkpoint()->set_step(step);
    attempt.mutable_checkpoint()->set_size_bytes(kCheckpointBytes);
    attempt.mutable_checkpoint()->set_manifest_digest(absl::StrFormat("sha256:%064x", step));
    attempt.set_first_metric_n(step / kStepsOfCheckpoint);
    attempt.clear_metrics();
    v1::MetricPoint& point = *attempt.add_metrics();
    point.set_step(step);
    point.set_loss(1.0 / static_cast<double>(step));
    point.set_learning_rate(2e-4);
    point.set_grad_norm(0.5);
    point.set_tokens(step * 1024);
    point.set_tokens_per_second(1000);
    worker.news_at = Monotonic();
    if (worker.call == nullptr) return;  // After an error; said with the next report.
    worker.call->Cancel();
    ++counted_.given_up;
    Send(worker);
  }

  const SchedulerUnderTest& scheduler_;
  const FleetOptions options_;
  const absl::Duration lease_;
  std::vector<Worker> workers_;
  const services::Channel tenant_;
  const std::unique_ptr<v1::TrainingService::Stub> training_;
  std::vector<services::Channel> channels_;
  std::vector<std::unique_ptr<v1::WorkerService::Stub>> stubs_;
  int64_t submitted_ = 0;
  size_t joined_ = 0;
  int64_t running_ = 0;
  Counted counted_;
  double acknowledged_news_at_ = 0;  // By the answer that is being applied.
  std::mt19937 chance_{7};
  CallQueue queue_;  // Last: its calls use what is above.
};

}  // namespace

std::string MeasureFleet(const LoadOptions& options, const FleetOptions& fleet) {
  LoadResult result(options);
  std::optional<SchedulerUnderTest> scheduler(options.scheduler);
  std::optional<FleetLoad> load(std::in_place, *scheduler, options.scheduler.lease, fleet);
  const double began_at = Monotonic();
  load->Ramp();
  const double ramp_seconds = Monotonic() - began_at;
  LOG(INFO) << load->running() << " workers have a job after " << ramp_seconds << " s";
  load->Run(options.scheduler.lease / 2);
  load->BeginCounting();
  result.Begin(*scheduler);
  load->Run(options.duration);
  result.End(*scheduler);
  const Counted counted = load->counted();
  const int64_t running = load->running();
  load.reset();
  scheduler.reset();
  return result.Text({{"measured", "fleet"},
                      {"workers", fleet.workers},
                      {"workers_with_job", running},
                      {"ramp_seconds", ramp_seconds},
                      {"syncs_per_second", static_cast<double>(counted.answers) / result.seconds()},
                      {"answered_at_once", counted.at_once.size()},
                      {"p50_seconds", Quantile(counted.at_once, 0.5)},
                      {"p99_seconds", Quantile(counted.at_once, 0.99)},
                      {"held_late_p50_seconds", Quantile(counted.late, 0.5)},
                      {"held_late_p99_seconds", Quantile(counted.late, 0.99)},
                      {"given_up", counted.given_up},
                      {"jobs_lost", counted.lost},
                      {"errors", counted.errors}});
}

}  // namespace deltaworks::bench
