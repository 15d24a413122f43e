#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "tests/bench/scheduler_load/call_queue.h"
#include "tests/bench/scheduler_load/load_result.h"
#include "tests/bench/scheduler_load/loads.h"
#include "tests/bench/scheduler_load/worker_report.h"

namespace deltaworks::bench {
namespace {

constexpr absl::Duration kCallMax = absl::Seconds(60);
// For a report to be held before the job comes.
constexpr absl::Duration kSettle = absl::Milliseconds(5);

class AssignmentLoad {
 public:
  explicit AssignmentLoad(const SchedulerUnderTest& scheduler)
      : scheduler_(scheduler),
        tenant_(scheduler.ConnectTenant()),
        platform_(scheduler.ConnectWorker()),
        training_(v1::TrainingService::NewStub(tenant_.grpc)),
        worker_(v1::WorkerService::NewStub(platform_.grpc)) {}

  void RunJob() {
    Sync({});  // What the job before changed.
    Hold();
    queue_.Run(kSettle);
    const double sent_at = Monotonic();
    std::string job;
    bool accepted = false;
    queue_.Start<v1::Job>(
        tenant_, kCallMax,
        [&, request = NewJob()](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return training_->PrepareAsyncCreateJob(context, request, queue);
        },
        [&](const grpc::Status& status, const v1::Job& answer) {
          Check("CreateJob", status);
          accept_.push_back(Monotonic() - sent_at);
          job = answer.name();
          accepted = true;
        });
    Await([&] { return assigned_at_ > 0 && accepted; });
    assign_.push_back(assigned_at_ - sent_at);
    Finish();
  }

  const std::vector<double>& accept() const { return accept_; }
  const std::vector<double>& assign() const { return assign_; }

 private:
  void Check(const char* rpc, const grpc::Status& status) {
    if (!status.ok()) scheduler_.Fail(absl::StrCat(rpc, ": ", status.error_message()));
  }

  void Await(const std::function<bool()>& condition) {
    if (!queue_.RunUntil(condition, kCallMax)) scheduler_.Fail("an answer did not come");
  }

  // An idle worker's reports, one after the other until one is answered with a job.
  void Hold() {
    assigned_at_ = 0;
    Send({}, [this] {
      if (answer_.assignments_size() == 0) return Hold();
      assignment_ = answer_.assignments(0);
      assigned_at_ = Monotonic();
    });
  }

  // The worker begins the job, which is cancelled, and leaves it.
  void Finish() {
    v1::AttemptReport attempt;
    attempt.set_job(assignment_.job());
    attempt.set_lease_epoch(assignment_.lease_epoch());
    attempt.set_attempt_id(assignment_.attempt_id());
    attempt.set_phase(v1::AttemptReport::TRAINING);
    Sync({attempt});
    bool cancelled = false;
    v1::CancelJobRequest request;
    request.set_name(assignment_.job());
    queue_.Start<v1::Job>(
        tenant_, kCallMax,
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return training_->PrepareAsyncCancelJob(context, request, queue);
        },
        [&](const grpc::Status& status, const v1::Job&) {
          Check("CancelJob", status);
          cancelled = true;
        });
    Await([&] { return cancelled; });
    attempt.set_phase(v1::AttemptReport::LEFT);
    Sync({attempt});
  }

  void Sync(const std::vector<v1::AttemptReport>& attempts) {
    bool answered = false;
    Send(attempts, [&] { answered = true; });
    Await([&] { return answered; });
  }

  void Send(const std::vector<v1::AttemptReport>& attempts, CallQueue::Task done) {
    v1::SyncRequest request = NewReport("workers/bench-0");
    request.set_report_number(++report_number_);
    request.set_seen_term(answer_.term());
    request.set_seen_revision(answer_.revision());
    request.mutable_attempts()->Assign(attempts.begin(), attempts.end());
    queue_.Start<v1::SyncResponse>(
        platform_, kCallMax,
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return worker_->PrepareAsyncSync(context, request, queue);
        },
        [this, done = std::move(done)](const grpc::Status& status,
                                       const v1::SyncResponse& answer) mutable {
          Check("Sync", status);
          answer_ = answer;
          done();
        });
  }

  const SchedulerUnderTest& scheduler_;
  const services::Channel tenant_;
  const services::Channel platform_;
  const std::unique_ptr<v1::TrainingService::Stub> training_;
  const std::unique_ptr<v1::WorkerService::Stub> worker_;
  std::vector<double> accept_;
  std::vector<double> assign_;
  int64_t report_number_ = 0;
  v1::SyncResponse answer_;  // The last one.
  v1::Assignment assignment_;
  double assigned_at_ = 0;
  CallQueue queue_;  // Last: its calls use what is above.
};

}  // namespace

std::string MeasureAssignments(const LoadOptions& options, int64_t jobs) {
  LoadResult result(options);
  std::optional<SchedulerUnderTest> scheduler(options.scheduler);
  std::optional<AssignmentLoad> load(*scheduler);
  load->RunJob();  // Connections, statements and caches.
  result.Begin(*scheduler);
  for (int64_t i = 0; i < jobs; ++i) load->RunJob();
  result.End(*scheduler);
  const std::vector<double> accept(load->accept().begin() + 1, load->accept().end());
  const std::vector<double> assign(load->assign().begin() + 1, load->assign().end());
  load.reset();
  scheduler.reset();
  return result.Text({{"measured", "assignment"},
                      {"jobs", jobs},
                      {"accept_p50_seconds", Quantile(accept, 0.5)},
                      {"accept_p99_seconds", Quantile(accept, 0.99)},
                      {"p50_seconds", Quantile(assign, 0.5)},
                      {"p99_seconds", Quantile(assign, 0.99)}});
}

}  // namespace deltaworks::bench
