// The scheduler over sockets: tokens and tenants, long polls, streams that are cut, a process that
// is killed and comes back on the same file.

#include "services/scheduler/scheduler_server.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "scheduler/job_state.h"
#include "scheduler/testing/harness.h"
#include "services/base/server.h"
#include "services/base/token_file.h"
#include "services/clients/fake_registry_client.h"
#include "services/clients/fake_store_client.h"
#include "services/scheduler/testing/faulty_event_store.h"
#include "services/scheduler/testing/scripted_worker.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::deltaworks::scheduler::MakeCreateRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Stub = v1::TrainingService::Stub;

class SchedulerServerTest : public ::testing::Test {
 protected:
  SchedulerServerTest() {
    const std::string tokens = ::testing::TempDir() + "/scheduler_tokens";
    unlink(tokens.c_str());
    platform_ = *TokenFile::AddToken(tokens, kAllTenants);
    owner_ = *TokenFile::AddToken(tokens, "t");
    stranger_ = *TokenFile::AddToken(tokens, "globex");
    tokens_ = *TokenFile::Open(tokens);
    authenticator_ = std::make_unique<Authenticator>(tokens_.get(), metrics_);
    store_.SetValidator([](const v1::ValidateTrainingRequest& request) {
      v1::ValidateTrainingResponse response = scheduler::MakeValidation();
      *response.mutable_spec() = request.spec();
      return response;
    });
    database_ = ::testing::TempDir() + "/scheduler_server.db";
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((database_ + suffix).c_str());
    Begin();
  }

  // A process: everything but the file and what others hold.
  void Begin() {
    process_metrics_ = std::make_unique<Metrics>("scheduler");
    auto sqlite = SqliteEventStore::Open({.path = database_});
    ASSERT_TRUE(sqlite.ok()) << sqlite.status();
    auto events = std::make_unique<FaultyEventStore>(*std::move(sqlite));
    events_ = events.get();
    auto scheduler = SchedulerServer::StartWith({}, std::move(events), store_, registry_,
                                                RealClock(), *process_metrics_, *authenticator_);
    ASSERT_TRUE(scheduler.ok()) << scheduler.status();
    scheduler_ = *std::move(scheduler);
    auto server =
        Server::Start({}, *authenticator_, *process_metrics_, RealClock(), scheduler_->services());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    MutexLock lock(&mutex_);
    address_ = server_->address();
  }
  // As kill -9 leaves it: what was folded is not stored, or stored and not answered.
  void Kill(bool stored) {
    events_->FailAppends(stored ? FaultyEventStore::Fault::kStored : FaultyEventStore::Fault::kLost,
                         1 << 20);
    server_.reset();
    scheduler_.reset();
  }
  void Restart() {
    scheduler_->Drain();
    server_->Stop(absl::Seconds(5));
    server_.reset();
    scheduler_.reset();
    Begin();
  }

  std::shared_ptr<grpc::Channel> Connect() {
    MutexLock lock(&mutex_);
    return grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  }
  std::unique_ptr<Stub> Training() { return v1::TrainingService::NewStub(Connect()); }

  static void Prepare(grpc::ClientContext& context, const std::string& token) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    context.AddMetadata("authorization", "Bearer " + token);
  }
  template <typename Request, typename Response>
  grpc::Status Call(const std::string& token,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    const auto stub = Training();
    grpc::ClientContext context;
    Prepare(context, token);
    response->Clear();
    return (stub.get()->*method)(&context, request, response);
  }
  grpc::Status Create(const std::string& token, const std::string& job_id,
                      const std::string& request_id = "") {
    v1::CreateJobRequest request = MakeCreateRequest(job_id);
    request.set_request_id(request_id);
    return Call(token, &Stub::CreateJob, request, &job_);
  }
  v1::Job Get(const std::string& name) {
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    const grpc::Status status = Call(owner_, &Stub::GetJob, request, &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job;
  }
  // One report and its answer, which the worker takes.
  grpc::Status Sync(ScriptedWorker& worker, const std::string& token, bool with_news = true) {
    const auto stub = v1::WorkerService::NewStub(Connect());
    grpc::ClientContext context;
    Prepare(context, token);
    v1::SyncResponse answer;
    const grpc::Status status = stub->Sync(&context, worker.NextReport(with_news), &answer);
    if (status.ok()) worker.TakeAnswer(answer);
    return status;
  }
  // Reads a WatchJob stream until it ends or `look` says false. Returns how it ended.
  template <typename Look>
  grpc::Status Watch(const std::string& token, const v1::WatchJobRequest& request, Look look) {
    const auto stub = Training();
    grpc::ClientContext context;
    Prepare(context, token);
    const auto reader = stub->WatchJob(&context, request);
    v1::WatchJobResponse response;
    while (reader->Read(&response)) {
      if (!look(response)) context.TryCancel();
    }
    return reader->Finish();
  }
  // The status that every rpc gives `token` about what tenant t has, by the rpc's name.
  std::vector<std::pair<std::string, grpc::Status>> AllRpcs(const std::string& token);

  Metrics metrics_{"test"};
  FakeStoreClient store_;
  FakeRegistryClient registry_;
  std::string platform_, owner_, stranger_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Authenticator> authenticator_;
  std::string database_;
  std::unique_ptr<Metrics> process_metrics_;
  FaultyEventStore* events_ = nullptr;
  std::unique_ptr<SchedulerServer> scheduler_;
  std::unique_ptr<Server> server_;
  Mutex mutex_;
  std::string address_ ABSL_GUARDED_BY(mutex_);
  v1::Job job_;
};

std::vector<std::pair<std::string, grpc::Status>> SchedulerServerTest::AllRpcs(
    const std::string& token) {
  std::vector<std::pair<std::string, grpc::Status>> answers;
  answers.emplace_back("CreateJob", Create(token, "new"));
  v1::GetJobRequest get;
  get.set_name(JobName("a"));
  answers.emplace_back("GetJob", Call(token, &Stub::GetJob, get, &job_));
  v1::ListJobsRequest list;
  list.set_parent("tenants/t");
  v1::ListJobsResponse jobs;
  answers.emplace_back("ListJobs", Call(token, &Stub::ListJobs, list, &jobs));
  v1::PauseJobRequest pause;
  pause.set_name(JobName("a"));
  answers.emplace_back("PauseJob", Call(token, &Stub::PauseJob, pause, &job_));
  v1::UpdateJobRequest update;
  update.set_name(JobName("a"));
  update.set_priority_class(v1::HIGH);
  answers.emplace_back("UpdateJob", Call(token, &Stub::UpdateJob, update, &job_));
  v1::ResumeJobRequest resume;
  resume.set_name(JobName("a"));
  answers.emplace_back("ResumeJob", Call(token, &Stub::ResumeJob, resume, &job_));
  v1::ListJobEventsRequest list_events;
  list_events.set_parent(JobName("a"));
  v1::ListJobEventsResponse job_events;
  answers.emplace_back("ListJobEvents",
                       Call(token, &Stub::ListJobEvents, list_events, &job_events));
  v1::ListJobMetricsRequest list_metrics;
  list_metrics.set_parent(JobName("a"));
  v1::ListJobMetricsResponse points;
  answers.emplace_back("ListJobMetrics", Call(token, &Stub::ListJobMetrics, list_metrics, &points));
  v1::CancelJobRequest cancel;
  cancel.set_name(JobName("a"));
  answers.emplace_back("CancelJob", Call(token, &Stub::CancelJob, cancel, &job_));
  v1::RerunJobRequest rerun;
  rerun.set_name(JobName("a"));
  answers.emplace_back("RerunJob", Call(token, &Stub::RerunJob, rerun, &job_));
  v1::EstimateJobRequest estimate;
  estimate.set_parent("tenants/t");
  *estimate.mutable_job() = MakeCreateRequest("x").job();
  v1::EstimateJobResponse estimated;
  answers.emplace_back("EstimateJob", Call(token, &Stub::EstimateJob, estimate, &estimated));
  v1::WatchJobRequest watch;
  watch.set_name(JobName("a"));
  bool is_shown = false;
  answers.emplace_back("WatchJob", Watch(token, watch, [&](const auto&) {
                         is_shown = true;
                         return true;
                       }));
  EXPECT_EQ(is_shown, answers.back().second.ok());
  grpc::ClientContext context;
  Prepare(context, token);
  v1::WatchJobsRequest watch_jobs;
  watch_jobs.set_parent("tenants/t");
  const auto stub = Training();
  const auto reader = stub->WatchJobs(&context, watch_jobs);
  v1::WatchJobsResponse response;
  const bool is_listed = reader->Read(&response);
  if (is_listed) context.TryCancel();
  const grpc::Status ended = reader->Finish();
  answers.emplace_back("WatchJobs", is_listed ? grpc::Status::OK : ended);
  // Last, as there is nothing left of the job.
  v1::DeleteJobRequest remove;
  remove.set_name(JobName("a"));
  google::protobuf::Empty nothing;
  answers.emplace_back("DeleteJob", Call(token, &Stub::DeleteJob, remove, &nothing));
  return answers;
}

TEST_F(SchedulerServerTest, ATenantSeesNothingOfAnothersOnAnyRpc) {
  ASSERT_TRUE(Create(owner_, "a").ok());
  for (const auto& [rpc, status] : AllRpcs(stranger_)) {
    EXPECT_TRUE(status.error_code() == grpc::NOT_FOUND ||
                status.error_code() == grpc::PERMISSION_DENIED)
        << rpc << ": " << status.error_code() << " " << status.error_message();
  }
  // What is not there is answered in the same words.
  v1::GetJobRequest get;
  get.set_name(JobName("a"));
  const grpc::Status foreign = Call(stranger_, &Stub::GetJob, get, &job_);
  get.set_name(JobName("b"));
  const grpc::Status absent = Call(owner_, &Stub::GetJob, get, &job_);
  EXPECT_EQ(foreign.error_code(), absent.error_code());
  EXPECT_EQ(foreign.error_message(), "tenants/t/jobs/a does not exist");
  EXPECT_EQ(absent.error_message(), "tenants/t/jobs/b does not exist");
  // Nor may it use another's things in its own jobs.
  v1::CreateJobRequest theft = MakeCreateRequest("theft");
  theft.set_parent("tenants/globex");
  EXPECT_EQ(Call(stranger_, &Stub::CreateJob, theft, &job_).error_code(), grpc::INVALID_ARGUMENT);
  // The job is as it was, and its owner may do all of it.
  EXPECT_EQ(Get(JobName("a")).status().state(), v1::QUEUED);
  for (const auto& [rpc, status] : AllRpcs(owner_)) {
    EXPECT_TRUE(status.ok()) << rpc << ": " << status.error_message();
  }
}

TEST_F(SchedulerServerTest, WithoutAKnownTokenNothingIsAnswered) {
  ASSERT_TRUE(Create(owner_, "a").ok());
  std::vector<std::pair<std::string, grpc::Status>> answers = AllRpcs("nobody's");
  v1::ListWorkersResponse workers;
  answers.emplace_back("ListWorkers", Call("nobody's", &Stub::ListWorkers, {}, &workers));
  ScriptedWorker worker("w");
  answers.emplace_back("Sync", Sync(worker, "nobody's"));
  for (const auto& [rpc, status] : answers) {
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED) << rpc << ": " << status.error_message();
  }
}

TEST_F(SchedulerServerTest, WorkersAreShownToEverybodyAndTheirJobsToTheOwner) {
  ASSERT_TRUE(Create(owner_, "a").ok());
  ScriptedWorker worker("w");
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(Sync(worker, platform_).ok());
  ASSERT_THAT(worker.jobs(), ElementsAre(JobName("a")));
  for (const std::string& token : {owner_, platform_, stranger_}) {
    v1::ListWorkersResponse workers;
    const grpc::Status status = Call(token, &Stub::ListWorkers, {}, &workers);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_THAT(workers.workers(), SizeIs(1));
    EXPECT_EQ(workers.workers(0).name(), "workers/w");
    EXPECT_EQ(workers.workers(0).job_count(), 1);
    EXPECT_THAT(workers.workers(0).jobs(), SizeIs(token == stranger_ ? 0 : 1));
  }
}

TEST_F(SchedulerServerTest, OnlyThePlatformSpeaksForWorkersAndOnlyInOrder) {
  ScriptedWorker worker("w");
  EXPECT_EQ(Sync(worker, owner_).error_code(), grpc::PERMISSION_DENIED);
  EXPECT_TRUE(Sync(worker, platform_).ok());
  ScriptedWorker nameless("Not A Name");
  EXPECT_EQ(Sync(nameless, platform_).error_code(), grpc::INVALID_ARGUMENT);
  ScriptedWorker successor("w");
  successor.Restart();
  EXPECT_TRUE(Sync(successor, platform_).ok());
  const grpc::Status old = Sync(worker, platform_);
  EXPECT_EQ(old.error_code(), grpc::FAILED_PRECONDITION) << old.error_message();
}

TEST_F(SchedulerServerTest, MalformedRequestsAreRefusedByField) {
  v1::CreateJobRequest create = MakeCreateRequest("a");
  create.set_parent("t");
  EXPECT_THAT(Call(owner_, &Stub::CreateJob, create, &job_).error_message(),
              HasSubstr("parent is \"t\", want tenants/{tenant}"));
  create = MakeCreateRequest("a");
  create.mutable_job()->mutable_train()->mutable_lora()->set_rank(0);
  EXPECT_THAT(Call(owner_, &Stub::CreateJob, create, &job_).error_message(),
              HasSubstr("job.train.lora.rank is 0, want 1..1024"));
  v1::GetJobRequest get;
  EXPECT_THAT(Call(owner_, &Stub::GetJob, get, &job_).error_message(), HasSubstr("name is"));
}

TEST_F(SchedulerServerTest, FiftyThreadsWithOneRequestIdMakeOneJobAlsoAfterARestart) {
  Mutex mutex;
  std::set<std::string> names;
  const auto create_from_threads = [&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 50; ++i) {
      threads.emplace_back([&] {
        v1::CreateJobRequest request = MakeCreateRequest("");
        request.set_request_id("once");
        v1::Job job;
        const grpc::Status status = Call(owner_, &Stub::CreateJob, request, &job);
        EXPECT_TRUE(status.ok()) << status.error_message();
        MutexLock lock(&mutex);
        names.insert(job.name());
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  create_from_threads();
  Restart();
  create_from_threads();
  Kill(/*stored=*/false);
  Begin();
  create_from_threads();
  EXPECT_THAT(names, SizeIs(1));
  v1::CreateJobRequest other = MakeCreateRequest("");
  other.set_request_id("once");
  other.mutable_job()->set_display_name("another");
  const grpc::Status refused = Call(owner_, &Stub::CreateJob, other, &job_);
  EXPECT_EQ(refused.error_code(), grpc::ALREADY_EXISTS);
  EXPECT_THAT(refused.error_message(), HasSubstr("job.display_name"));
}

TEST_F(SchedulerServerTest, AnIdleWorkerHasTheJobWithinASecondOfItsCreation) {
  ScriptedWorker worker("w");
  ASSERT_TRUE(Sync(worker, platform_).ok());
  absl::Duration granted_at;
  std::thread poll([&] {
    const grpc::Status status = Sync(worker, platform_);
    EXPECT_TRUE(status.ok()) << status.error_message();
    granted_at = RealClock().Monotonic();
  });
  // The report is held once it is counted.
  while (process_metrics_->Text().find("deltaworks_scheduler_syncs_held 1") == std::string::npos) {
    std::this_thread::yield();
  }
  const absl::Duration created_at = RealClock().Monotonic();
  ASSERT_TRUE(Create(owner_, "a").ok());
  poll.join();
  EXPECT_THAT(worker.jobs(), ElementsAre(JobName("a")));
  EXPECT_LT(granted_at - created_at, absl::Seconds(1));
}

TEST_F(SchedulerServerTest, AWatchCutAHundredTimesMissesAndRepeatsNothing) {
  ASSERT_TRUE(Create(owner_, "a").ok());
  std::thread work([&] {
    ScriptedWorker worker("w");
    (void)Sync(worker, platform_);
    (void)Sync(worker, platform_);
    while (!worker.idle()) {
      worker.Train(1, /*checkpoint=*/true);
      const grpc::Status status = Sync(worker, platform_);
      EXPECT_TRUE(status.ok()) << status.error_message();
    }
  });
  std::mt19937_64 random(3);
  v1::WatchJobRequest position;
  position.set_name(JobName("a"));
  int cuts = 0;
  grpc::Status ended;
  do {
    int64_t left = 1 + static_cast<int64_t>(random() % 3);
    ended = Watch(owner_, position, [&](const v1::WatchJobResponse& response) {
      for (const v1::JobEvent& event : response.events()) {
        EXPECT_EQ(event.seq(), position.since_seq() + 1);
        position.set_since_seq(event.seq());
      }
      if (response.metrics_size() > 0) {
        EXPECT_EQ(response.first_metric(), position.since_metric() + 1);
      }
      for (const v1::MetricPoint& point : response.metrics()) {
        position.set_since_metric(position.since_metric() + 1);
        EXPECT_EQ(point.step(), position.since_metric());
      }
      return --left > 0 || cuts >= 100;
    });
    cuts += ended.ok() ? 0 : 1;
  } while (!ended.ok() || cuts < 100);
  work.join();
  const v1::Job done = Get(JobName("a"));
  EXPECT_EQ(done.status().state(), v1::SUCCEEDED);
  EXPECT_EQ(position.since_seq(), done.status().last_event_seq());
  EXPECT_EQ(position.since_metric(), kScriptedSteps);
  EXPECT_GE(cuts, 100);
}

TEST_F(SchedulerServerTest, KilledAtTenRandomMomentsAJobStillSucceedsOnceWithOneVersion) {
  std::mt19937_64 random(11);
  ASSERT_TRUE(Create(owner_, "a").ok());
  std::atomic<int64_t> answered{0};
  std::thread work([&] {
    ScriptedWorker worker("w");
    do {
      if (!Sync(worker, platform_).ok()) continue;  // The next one finds the new process.
      ++answered;
      worker.Train(2, answered % 5 == 0);
    } while (answered < 2 || !worker.idle());
  });
  for (int kill = 0; kill < 10; ++kill) {
    const int64_t until = answered + static_cast<int64_t>(random() % 8);
    while (answered < until && answered < 40) std::this_thread::yield();
    Kill(/*stored=*/kill % 2 == 0);
    Begin();
  }
  work.join();
  const v1::Job done = Get(JobName("a"));
  EXPECT_EQ(done.status().state(), v1::SUCCEEDED);
  EXPECT_EQ(done.status().attempt_count(), 1);
  EXPECT_EQ(done.status().retries_used(), 0);
  EXPECT_EQ(done.status().metric_count(), kScriptedSteps);
  ASSERT_THAT(registry_.Versions(), SizeIs(1));
  EXPECT_EQ(registry_.Versions()[0].name(), done.status().result().version());
  EXPECT_EQ(registry_.Versions()[0].manifest_digest(), ScriptedResult(JobName("a")));
}

TEST_F(SchedulerServerTest, AStopEndsWatchesAnswersReportsAndASecondProcessIsKeptOut) {
  ASSERT_TRUE(Create(owner_, "a").ok());
  ScriptedWorker worker("w");
  ASSERT_TRUE(Sync(worker, platform_).ok());
  ASSERT_TRUE(Sync(worker, platform_).ok());
  ASSERT_THAT(worker.jobs(), ElementsAre(JobName("a")));

  const auto second = SqliteEventStore::Open({.path = database_, .busy_timeout_ms = 1});
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("database locked by another process"));

  absl::Notification watched;
  grpc::Status watch_end;
  std::thread watch([&] {
    v1::WatchJobRequest request;
    request.set_name(JobName("a"));
    watch_end = Watch(owner_, request, [&](const v1::WatchJobResponse&) {
      if (!watched.HasBeenNotified()) watched.Notify();
      return true;
    });
  });
  grpc::Status report_end;
  std::thread report([&] { report_end = Sync(worker, platform_, /*with_news=*/false); });
  watched.WaitForNotification();
  Restart();
  watch.join();
  report.join();
  EXPECT_EQ(watch_end.error_code(), grpc::UNAVAILABLE) << watch_end.error_message();
  EXPECT_TRUE(report_end.ok() || report_end.error_code() == grpc::UNAVAILABLE);
  EXPECT_EQ(Get(JobName("a")).status().state(), v1::RUNNING);
  EXPECT_TRUE(Sync(worker, platform_).ok());
  EXPECT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::RUN);
}

}  // namespace
}  // namespace deltaworks::services
