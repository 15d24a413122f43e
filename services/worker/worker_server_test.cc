// A whole worker against a scripted scheduler over gRPC: its threads, its trainer on a tiny model,
// its uploads. However a job's life went (undisturbed, paused, handed back at SIGTERM, killed), it
// ends with the same bytes.

#include "services/worker/worker_server.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/address.h"
#include "services/base/authenticator.h"
#include "services/base/server.h"
#include "services/base/token_file.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_worker_sync_client.h"
#include "services/worker/testing/engine_harness.h"
#include "services/worker/testing/scripted_scheduler_service.h"
#include "services/worker/testing/tiny_world.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using Attempt = ScriptedScheduler::Attempt;
using Report = v1::AttemptReport;

// Enough to be told something before the end: a worker hears it within milliseconds, and this takes
// it about a second.
constexpr int64_t kSteps = 200;

ScriptedScheduler::Attempt NewAttempt(int64_t epoch = 1) {
  Attempt attempt;
  attempt.key = KeyOf("served", epoch);
  attempt.task = TinyTask();
  v1::TrainingArguments& arguments = *attempt.task.mutable_spec()->mutable_arguments();
  arguments.set_max_steps(kSteps);
  arguments.set_save_steps(10);
  arguments.set_eval_steps(50);
  attempt.task.mutable_checkpoint_interval()->set_seconds(60);
  return attempt;
}

// The attempt after `before`, from its last checkpoint.
Attempt Next(const Attempt& before) {
  Attempt attempt = NewAttempt(before.key.lease_epoch + 1);
  if (before.checkpoint.has_value()) {
    v1::Checkpoint& start = *attempt.task.mutable_start_checkpoint();
    start.set_step(before.checkpoint->step());
    start.set_manifest_digest(before.checkpoint->manifest_digest());
    attempt.checkpoint = before.checkpoint;  // Committed for the job.
  }
  return attempt;
}

// The digest of an undisturbed run, without threads and network.
const std::string& Undisturbed() {
  static const std::string* digest = [] {
    EngineHarness engine;
    engine.engine().Start(KeyOf("alone"), NewAttempt().task);
    engine.RunAll();
    return new std::string(engine.results[KeyOf("alone").job].adapter_digest);
  }();
  return *digest;
}

// A scheduler's process, and workers on one device, one after the other.
class WorkerServerTest : public ::testing::Test {
 protected:
  WorkerServerTest() {
    static int count = 0;
    folder_ = absl::StrCat(TheWorld().folder, "/served-", ++count);
    CHECK(MakeDirectories(folder_).ok());
    token_ = *TokenFile::AddToken(folder_ + "/tokens", kAllTenants);
    tokens_ = *TokenFile::Open(folder_ + "/tokens");
    authenticator_ = std::make_unique<Authenticator>(tokens_.get(), metrics_);
    server_ = *Server::Start({}, *authenticator_, metrics_, RealClock(), {&scheduler_});
  }
  ~WorkerServerTest() override { StopWorker(); }

  absl::Status StartWorker(const std::string& gang_address = "") {
    client_ = MakeGrpcWorkerSyncClient(MakeChannel(server_->address(), token_));
    auto worker = WorkerServer::Start({.device = {.device = "cpu:0", .threads = 1},
                                       .machine_id = "m",
                                       .lock_folder = folder_ + "/devices",
                                       .cache_folder = TheWorld().folder + "/cache",
                                       .gang_address = gang_address},
                                      TheWorld().store, *client_, RealClock(), metrics_,
                                      [this](absl::Status status) {
                                        MutexLock lock(&mutex_);
                                        fatal_ = std::move(status);
                                        changed_.SignalAll();
                                      });
    if (!worker.ok()) return worker.status();
    worker_ = *std::move(worker);
    worker_->Serve();
    return absl::OkStatus();
  }
  // As by an error: nothing is handed back.
  void StopWorker() {
    worker_.reset();
    client_.reset();
  }
  bool WaitUntilFatal() {
    const absl::Duration end = RealClock().Monotonic() + absl::Minutes(1);
    MutexLock lock(&mutex_);
    while (fatal_.ok() && RealClock().Monotonic() < end) {
      changed_.WaitWithTimeout(&mutex_, absl::Seconds(1));
    }
    return absl::IsFailedPrecondition(fatal_);
  }

  std::string folder_;
  std::string token_;
  Metrics metrics_{"worker"};
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Authenticator> authenticator_;
  ScriptedScheduler scheduler_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<WorkerSyncClient> client_;
  std::unique_ptr<WorkerServer> worker_;
  Mutex mutex_;
  CondVar changed_;
  absl::Status fatal_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(WorkerServerTest, AJobGoesFromItsGrantToAResultThatTheStoreHas) {
  ASSERT_TRUE(StartWorker().ok());
  ASSERT_TRUE(scheduler_.WaitUntilHeard());
  EXPECT_EQ(scheduler_.last_report().worker(), "workers/m-cpu-0");
  scheduler_.Grant(NewAttempt());
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  const Attempt attempt = scheduler_.latest();
  ASSERT_TRUE(attempt.result.has_value()) << attempt.failure->message();
  EXPECT_EQ(attempt.phases.back(), Report::DONE);
  EXPECT_EQ(attempt.result->step(), kSteps);
  EXPECT_EQ(attempt.result->adapter_digest(), Undisturbed());

  // Everything that it names is there and pinned by the job.
  const FakeStoreClient& store = TheWorld().store;
  EXPECT_TRUE(store.HasBlob(attempt.result->adapter_digest()));
  EXPECT_TRUE(store.HasBlob(attempt.result->manifest_digest()));
  EXPECT_TRUE(store.Pins().contains({attempt.key.job, attempt.result->manifest_digest()}));

  // Every step's point came, in order, the evaluations with theirs.
  ASSERT_EQ(attempt.metrics.size(), static_cast<size_t>(kSteps + 1));
  std::vector<int64_t> evaluated;
  for (const auto& [n, point] : attempt.metrics) {
    EXPECT_EQ(point.step(), n - 1);
    if (point.has_eval_loss()) evaluated.push_back(point.step());
  }
  EXPECT_THAT(evaluated, ElementsAre(0, 50, 100, 150, 200));
  ASSERT_TRUE(attempt.checkpoint.has_value());
  EXPECT_EQ(attempt.checkpoint->step(), kSteps);
}

TEST_F(WorkerServerTest, WhereTheOthersOfAGangReachItIsToldAndWhatIsWrongIsRefused) {
  ASSERT_TRUE(StartWorker().ok());
  ASSERT_TRUE(scheduler_.WaitUntilHeard());
  EXPECT_EQ(scheduler_.last_report().environment().gang_size_max(), 0);
  EXPECT_EQ(scheduler_.last_report().environment().gang_address(), "");
  StopWorker();
  EXPECT_TRUE(absl::IsInvalidArgument(StartWorker("127.0.0.1:99999")));
  EXPECT_FALSE(StartWorker("203.0.113.7").ok());  // Not of this machine (RFC 5737).
  const int64_t heard = scheduler_.last_report().incarnation();
  ASSERT_TRUE(StartWorker("127.0.0.1").ok());
  const absl::Duration end = RealClock().Monotonic() + absl::Minutes(1);
  while (scheduler_.last_report().incarnation() == heard && RealClock().Monotonic() < end) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  const v1::WorkerEnvironment environment = scheduler_.last_report().environment();
  EXPECT_EQ(environment.gang_size_max(), 64);
  const auto address = ParseHostPort("gang_address", environment.gang_address());
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->host, "127.0.0.1");
  EXPECT_GT(address->port, 0);
}

TEST_F(WorkerServerTest, AJobThatWasPausedAndResumedEndsWithTheSameBytes) {
  ASSERT_TRUE(StartWorker().ok());
  Attempt first = NewAttempt();
  first.order_at = Report::TRAINING;
  first.order = v1::Assignment::YIELD;
  scheduler_.Grant(first);
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  first = scheduler_.latest();
  EXPECT_EQ(first.phases.back(), Report::LEFT);
  ASSERT_TRUE(first.checkpoint.has_value());
  EXPECT_GT(first.checkpoint->step(), 0);
  EXPECT_LT(first.checkpoint->step(), kSteps);

  scheduler_.Grant(Next(first));
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  const Attempt second = scheduler_.latest();
  ASSERT_TRUE(second.result.has_value()) << second.failure->message();
  EXPECT_EQ(second.result->adapter_digest(), Undisturbed());
  EXPECT_EQ(second.metrics.at(1).step(), first.checkpoint->step() + 1);
}

TEST_F(WorkerServerTest, AJobHandedBackByAWorkerThatWasToldToStopEndsWithTheSameBytes) {
  int64_t incarnation = 0;
  Attempt first;
  // On a busy machine the job may be through before it is told.
  for (int tries = 0; first.phases.empty() || first.phases.back() != Report::LEFT; ++tries) {
    ASSERT_LT(tries, 10);
    StopWorker();
    ASSERT_TRUE(StartWorker().ok());
    incarnation = worker_->incarnation();
    scheduler_.Grant(NewAttempt());
    ASSERT_TRUE(scheduler_.WaitUntil([](const Attempt& attempt) {
      return !attempt.phases.empty() && attempt.phases.back() >= Report::TRAINING;
    }));
    ASSERT_TRUE(worker_->Drain(absl::Minutes(1)));
    first = scheduler_.latest();
  }
  ASSERT_TRUE(first.checkpoint.has_value());
  EXPECT_LT(first.checkpoint->step(), kSteps);
  EXPECT_TRUE(scheduler_.last_report().draining());
  StopWorker();

  ASSERT_TRUE(StartWorker().ok());
  EXPECT_EQ(worker_->incarnation(), incarnation + 1);
  scheduler_.Grant(Next(first));
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  ASSERT_TRUE(scheduler_.latest().result.has_value());
  EXPECT_EQ(scheduler_.latest().result->adapter_digest(), Undisturbed());
  EXPECT_THAT(scheduler_.last_report().environment().bases_cached(),
              Contains(TheWorld().base_digest));
}

TEST_F(WorkerServerTest, AJobWhoseWorkerWasLostAfterACheckpointEndsWithTheSameBytes) {
  ASSERT_TRUE(StartWorker().ok());
  scheduler_.Grant(NewAttempt());
  ASSERT_TRUE(
      scheduler_.WaitUntil([](const Attempt& attempt) { return attempt.checkpoint.has_value(); }));
  StopWorker();
  const Attempt first = scheduler_.latest();
  scheduler_.EndLatest();

  ASSERT_TRUE(StartWorker().ok());
  scheduler_.Grant(Next(first));
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  ASSERT_TRUE(scheduler_.latest().result.has_value());
  EXPECT_EQ(scheduler_.latest().result->adapter_digest(), Undisturbed());
}

TEST_F(WorkerServerTest, ACancelledJobLeavesWithoutAResultAndTheWorkerTakesTheNext) {
  ASSERT_TRUE(StartWorker().ok());
  Attempt cancelled = NewAttempt();
  cancelled.order_at = Report::TRAINING;
  cancelled.order = v1::Assignment::STOP;
  scheduler_.Grant(cancelled);
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  EXPECT_EQ(scheduler_.latest().phases.back(), Report::LEFT);
  EXPECT_FALSE(scheduler_.latest().result.has_value());

  scheduler_.Grant(NewAttempt(/*epoch=*/2));
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  ASSERT_TRUE(scheduler_.latest().result.has_value());
  EXPECT_EQ(scheduler_.latest().result->adapter_digest(), Undisturbed());
}

TEST_F(WorkerServerTest, AJobThatCannotWorkFailsWithItsReason) {
  ASSERT_TRUE(StartWorker().ok());
  Attempt attempt = NewAttempt();
  attempt.task.mutable_spec()->mutable_lora()->add_target_modules("no_such_proj");
  scheduler_.Grant(attempt);
  ASSERT_TRUE(scheduler_.WaitUntilOver());
  ASSERT_TRUE(scheduler_.latest().failure.has_value());
  EXPECT_EQ(scheduler_.latest().failure->code(), "INVALID_SPEC");
  EXPECT_EQ(scheduler_.latest().failure->fault(), v1::Failure::USER);
}

TEST_F(WorkerServerTest, ADeviceHasOneWorkerAndAHigherIncarnationElsewhereEndsIt) {
  ASSERT_TRUE(StartWorker().ok());
  const auto second =
      WorkerServer::Start({.device = {.device = "cpu:0", .threads = 1},
                           .machine_id = "m",
                           .lock_folder = folder_ + "/devices",
                           .cache_folder = folder_ + "/cache"},
                          TheWorld().store, *client_, RealClock(), metrics_, [](absl::Status) {});
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();

  scheduler_.Refuse({grpc::StatusCode::FAILED_PRECONDITION, "incarnation 99 was seen"});
  EXPECT_TRUE(WaitUntilFatal());
  // It has nothing to hand back, and does not wait for anybody.
  EXPECT_TRUE(worker_->Drain(absl::Minutes(1)));
}

}  // namespace
}  // namespace deltaworks::services
