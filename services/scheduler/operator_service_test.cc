// The operator's rpcs over sockets: whose token may do what, a quota from its first setting to a
// conflict, usage of a job that trained, a drained worker whose job comes back.

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/operator_service.grpc.pb.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "scheduler/testing/harness.h"
#include "services/base/server.h"
#include "services/base/token_file.h"
#include "services/clients/fake_registry_client.h"
#include "services/clients/fake_store_client.h"
#include "services/scheduler/scheduler_server.h"
#include "services/scheduler/testing/scripted_worker.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::deltaworks::scheduler::MakeCreateRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Operators = v1::OperatorService::Stub;
using Training = v1::TrainingService::Stub;

class OperatorServiceTest : public ::testing::Test {
 protected:
  OperatorServiceTest() {
    const std::string tokens = ::testing::TempDir() + "/operator_tokens";
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
    const std::string database = ::testing::TempDir() + "/operator_service.db";
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((database + suffix).c_str());
    auto sqlite = SqliteEventStore::Open({.path = database});
    EXPECT_TRUE(sqlite.ok()) << sqlite.status();
    auto scheduler = SchedulerServer::StartWith({}, *std::move(sqlite), store_, registry_,
                                                RealClock(), metrics_, *authenticator_);
    EXPECT_TRUE(scheduler.ok()) << scheduler.status();
    scheduler_ = *std::move(scheduler);
    auto server = Server::Start({}, *authenticator_, metrics_, RealClock(), scheduler_->services());
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  }

  template <typename Stub, typename Request, typename Response>
  grpc::Status Call(const std::string& token,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    Stub stub(channel_);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    context.AddMetadata("authorization", "Bearer " + token);
    response->Clear();
    return (stub.*method)(&context, request, response);
  }
  grpc::Status Create(const std::string& job_id) {
    v1::Job job;
    return Call(owner_, &Training::CreateJob, MakeCreateRequest(job_id), &job);
  }
  v1::JobStatus StatusOf(const std::string& job) {
    v1::GetJobRequest request;
    request.set_name(job);
    v1::Job answer;
    const grpc::Status status = Call(owner_, &Training::GetJob, request, &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer.status();
  }
  void Sync(ScriptedWorker& worker) {
    v1::SyncResponse answer;
    const grpc::Status status =
        Call(platform_, &v1::WorkerService::Stub::Sync, worker.NextReport(), &answer);
    ASSERT_TRUE(status.ok()) << status.error_message();
    worker.TakeAnswer(answer);
  }
  static v1::SetQuotaRequest MakeQuota(int64_t limit, const std::string& etag = "") {
    v1::SetQuotaRequest request;
    request.mutable_quota()->set_name("tenants/t/quota");
    request.mutable_quota()->set_limit_devices(limit);
    request.mutable_quota()->set_etag(etag);
    return request;
  }
  static v1::SetWorkerModeRequest MakeMode(v1::WorkerMode mode,
                                           const std::string& worker = "workers/w") {
    v1::SetWorkerModeRequest request;
    request.set_worker(worker);
    request.set_mode(mode);
    return request;
  }
  v1::ListQuotasResponse Quotas(const std::string& token) {
    v1::ListQuotasResponse quotas;
    const grpc::Status status = Call(token, &Operators::ListQuotas, {}, &quotas);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return quotas;
  }
  // As everybody sees it.
  v1::WorkerMode ModeOf(const std::string& worker) {
    v1::ListWorkersResponse workers;
    const grpc::Status status = Call(stranger_, &Training::ListWorkers, {}, &workers);
    EXPECT_TRUE(status.ok()) << status.error_message();
    for (const v1::Worker& listed : workers.workers()) {
      if (listed.name() == worker) return listed.mode();
    }
    return v1::WORKER_MODE_UNSPECIFIED;
  }
  grpc::Status Usage(const std::string& token, const std::string& parent,
                     v1::ListUsageResponse* usage) {
    v1::ListUsageRequest request;
    request.set_parent(parent);
    return Call(token, &Operators::ListUsage, request, usage);
  }

  Metrics metrics_{"scheduler"};
  FakeStoreClient store_;
  FakeRegistryClient registry_;
  std::string platform_, owner_, stranger_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<SchedulerServer> scheduler_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  v1::Quota quota_;
  v1::SetWorkerModeResponse mode_;
};

TEST_F(OperatorServiceTest, OnlyATokenOfAllTenantsChangesAnythingAndTheRestSeeTheirOwn) {
  ScriptedWorker worker("w");
  Sync(worker);
  v1::ListQuotasResponse quotas;
  v1::ListUsageResponse usage;
  struct Row {
    const char* rpc;
    std::function<grpc::Status(const std::string& token)> call;
    // Of the platform, of tenant t, of another tenant.
    grpc::StatusCode platform, owner, stranger;
  };
  const std::vector<Row> rows = {
      {"SetQuota",
       [&](const auto& token) { return Call(token, &Operators::SetQuota, MakeQuota(3), &quota_); },
       grpc::OK, grpc::PERMISSION_DENIED, grpc::PERMISSION_DENIED},
      {"SetWorkerMode",
       [&](const auto& token) {
         return Call(token, &Operators::SetWorkerMode, MakeMode(v1::WORKER_CORDONED), &mode_);
       },
       grpc::OK, grpc::PERMISSION_DENIED, grpc::PERMISSION_DENIED},
      {"ListQuotas",
       [&](const auto& token) { return Call(token, &Operators::ListQuotas, {}, &quotas); },
       grpc::OK, grpc::OK, grpc::OK},
      {"ListUsage of t", [&](const auto& token) { return Usage(token, "tenants/t", &usage); },
       grpc::OK, grpc::OK, grpc::PERMISSION_DENIED},
      {"ListUsage of all", [&](const auto& token) { return Usage(token, "tenants/-", &usage); },
       grpc::OK, grpc::OK, grpc::OK},
  };
  const auto call_all = [&](const std::string& token, grpc::StatusCode Row::*want) {
    for (const Row& row : rows) {
      const grpc::Status status = row.call(token);
      EXPECT_EQ(status.error_code(), row.*want) << row.rpc << ": " << status.error_message();
      if (row.owner == grpc::PERMISSION_DENIED && want != &Row::platform) {
        EXPECT_EQ(status.error_message(),
                  "the token given is a tenant's, want one of the platform");
      }
    }
  };
  call_all(stranger_, &Row::stranger);
  call_all(owner_, &Row::owner);
  for (const Row& row : rows) {
    EXPECT_EQ(row.call("nobody's").error_code(), grpc::UNAUTHENTICATED) << row.rpc;
  }
  EXPECT_THAT(Quotas(platform_).quotas(), IsEmpty());
  EXPECT_EQ(ModeOf("workers/w"), v1::WORKER_ACTIVE);

  call_all(platform_, &Row::platform);
  EXPECT_EQ(ModeOf("workers/w"), v1::WORKER_CORDONED);
  EXPECT_THAT(Quotas(platform_).quotas(), SizeIs(1));
  EXPECT_THAT(Quotas(owner_).quotas(), SizeIs(1));
  EXPECT_THAT(Quotas(stranger_).quotas(), IsEmpty());
}

TEST_F(OperatorServiceTest, AQuotaIsReadChangedAndNotOverwrittenByWhoReadAnOlderOne) {
  ASSERT_TRUE(Call(platform_, &Operators::SetQuota, MakeQuota(3), &quota_).ok());
  EXPECT_EQ(quota_.name(), "tenants/t/quota");
  EXPECT_EQ(quota_.weight(), 1);
  EXPECT_EQ(quota_.limit_devices(), 3);
  const std::string first_etag = quota_.etag();
  EXPECT_NE(first_etag, "");
  EXPECT_EQ(Quotas(owner_).quotas(0).SerializeAsString(), quota_.SerializeAsString());

  ASSERT_TRUE(Call(platform_, &Operators::SetQuota, MakeQuota(4, first_etag), &quota_).ok());
  EXPECT_EQ(quota_.limit_devices(), 4);
  EXPECT_NE(quota_.etag(), first_etag);
  const grpc::Status late =
      Call(platform_, &Operators::SetQuota, MakeQuota(5, first_etag), &quota_);
  EXPECT_EQ(late.error_code(), grpc::ABORTED) << late.error_message();
  EXPECT_EQ(Quotas(owner_).quotas(0).limit_devices(), 4);

  v1::SetQuotaRequest guaranteed = MakeQuota(5);
  guaranteed.mutable_quota()->set_guaranteed_devices(5);
  EXPECT_EQ(Call(platform_, &Operators::SetQuota, guaranteed, &quota_).error_code(),
            grpc::FAILED_PRECONDITION);
  guaranteed.set_force(true);
  ASSERT_TRUE(Call(platform_, &Operators::SetQuota, guaranteed, &quota_).ok());
  EXPECT_EQ(quota_.guaranteed_devices(), 5);
}

TEST_F(OperatorServiceTest, MalformedRequestsAreRefusedByField) {
  v1::SetQuotaRequest quota = MakeQuota(3);
  quota.mutable_quota()->set_name("tenants/-/quota");
  EXPECT_THAT(Call(platform_, &Operators::SetQuota, quota, &quota_).error_message(),
              HasSubstr("quota.name is \"tenants/-/quota\", want tenants/{tenant}/quota"));
  EXPECT_THAT(Call(platform_, &Operators::SetQuota, v1::SetQuotaRequest(), &quota_).error_message(),
              HasSubstr("quota.name is"));
  const auto set_mode = [&](const v1::SetWorkerModeRequest& request) {
    return Call(platform_, &Operators::SetWorkerMode, request, &mode_);
  };
  EXPECT_THAT(set_mode(MakeMode(v1::WORKER_CORDONED, "w")).error_message(),
              HasSubstr("worker is \"w\", want workers/{worker}"));
  const grpc::Status absent = set_mode(MakeMode(v1::WORKER_CORDONED));
  EXPECT_EQ(absent.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(absent.error_message(), "workers/w never reported");
  EXPECT_EQ(set_mode(MakeMode(v1::WORKER_MODE_UNSPECIFIED)).error_code(), grpc::INVALID_ARGUMENT);
}

TEST_F(OperatorServiceTest, WhatAJobUsedIsItsTenantsOfThatDay) {
  ScriptedWorker worker("w");
  worker.SetStepTime(absl::Milliseconds(1));
  const absl::Time begin = RealClock().Now();
  ASSERT_TRUE(Create("a").ok());
  for (int i = 0; i < 2; ++i) Sync(worker);
  while (!worker.idle() && !HasFailure()) {
    worker.Train(1);
    Sync(worker);
  }
  EXPECT_EQ(StatusOf(JobName("a")).state(), v1::SUCCEEDED);
  v1::ListUsageResponse usage;
  ASSERT_TRUE(Usage(owner_, "tenants/t", &usage).ok());
  int64_t device_ms = 0, tokens = 0;
  for (const v1::UsageDay& row : usage.days()) {  // Two, around midnight.
    EXPECT_EQ(row.tenant(), "tenants/t");
    EXPECT_EQ(row.day().seconds() % 86'400, 0);
    EXPECT_LE(absl::FromUnixSeconds(row.day().seconds()), RealClock().Now());
    EXPECT_GT(absl::FromUnixSeconds(row.day().seconds()), begin - absl::Hours(24));
    device_ms += row.device_ms();
    tokens += row.tokens();
  }
  // A worker's word goes for no more than the time that passed.
  EXPECT_GT(device_ms, 0);
  EXPECT_LE(device_ms, kScriptedSteps);
  EXPECT_EQ(device_ms, StatusOf(JobName("a")).device_ms());
  EXPECT_EQ(tokens, kScriptedSteps * 1000);
  ASSERT_TRUE(Usage(stranger_, "tenants/-", &usage).ok());
  EXPECT_THAT(usage.days(), IsEmpty());
}

TEST_F(OperatorServiceTest, ADrainedWorkersJobYieldsAndGoesOnElsewhere) {
  ScriptedWorker worker("w");
  ASSERT_TRUE(Create("a").ok());
  for (int i = 0; i < 2; ++i) Sync(worker);
  ASSERT_THAT(worker.jobs(), ElementsAre(JobName("a")));
  worker.Train(10);
  Sync(worker);
  ASSERT_TRUE(
      Call(platform_, &Operators::SetWorkerMode, MakeMode(v1::WORKER_DRAINED), &mode_).ok());
  EXPECT_EQ(mode_.mode(), v1::WORKER_DRAINED);
  EXPECT_EQ(mode_.leaving(), 1);
  EXPECT_EQ(ModeOf("workers/w"), v1::WORKER_DRAINED);

  worker.Train(1);
  Sync(worker);
  ASSERT_THAT(worker.answer().assignments(), SizeIs(1));
  EXPECT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::YIELD);
  while (!worker.idle() && !HasFailure()) {
    worker.Train(1);
    Sync(worker);
  }
  EXPECT_EQ(StatusOf(JobName("a")).state(), v1::QUEUED);
  EXPECT_EQ(StatusOf(JobName("a")).reason(), v1::DRAINED);
  EXPECT_EQ(StatusOf(JobName("a")).retries_used(), 0);
  EXPECT_EQ(StatusOf(JobName("a")).checkpoint().step(), 11);

  ScriptedWorker other("other");
  for (int i = 0; i < 2; ++i) Sync(other);
  EXPECT_THAT(other.jobs(), ElementsAre(JobName("a")));
}

}  // namespace
}  // namespace deltaworks::services
