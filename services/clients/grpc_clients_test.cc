// The gRPC clients against servers that misbehave: what is repeated, under which id, and what is
// not.

#include <grpcpp/grpcpp.h>

#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/inference_service.grpc.pb.h"
#include "proto/deltaworks/v1/operator_service.grpc.pb.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "services/clients/grpc_inference_client.h"
#include "services/clients/grpc_operator_client.h"
#include "services/clients/grpc_training_client.h"
#include "services/clients/grpc_worker_sync_client.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class FakeScheduler final : public v1::TrainingService::Service {
 public:
  grpc::Status CreateJob(grpc::ServerContext* context, const v1::CreateJobRequest* request,
                         v1::Job* job) override {
    request_ids.push_back(request->request_id());
    const auto header = context->client_metadata().find("authorization");
    if (header != context->client_metadata().end()) {
      authorization.assign(header->second.data(), header->second.size());
    }
    if (failures-- > 0) return failure;
    job->set_name("tenants/t/jobs/j");
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    while (!context->IsCancelled()) writer->Write(v1::WatchJobResponse());
    cancelled.Notify();
    return grpc::Status::CANCELLED;
  }
  std::vector<std::string> request_ids;
  std::string authorization;
  int failures = 0;
  grpc::Status failure{grpc::StatusCode::UNAVAILABLE, "loading"};
  absl::Notification cancelled;
};

class FakeOperators final : public v1::OperatorService::Service {
 public:
  grpc::Status SetQuota(grpc::ServerContext*, const v1::SetQuotaRequest* request,
                        v1::Quota* quota) override {
    if (failures-- > 0) return {grpc::StatusCode::UNAVAILABLE, "loading"};
    *quota = request->quota();
    return grpc::Status::OK;
  }
  grpc::Status SetWorkerMode(grpc::ServerContext*, const v1::SetWorkerModeRequest*,
                             v1::SetWorkerModeResponse*) override {
    return {grpc::StatusCode::PERMISSION_DENIED, "a tenant's"};
  }
  grpc::Status ListQuotas(grpc::ServerContext*, const v1::ListQuotasRequest* request,
                          v1::ListQuotasResponse* response) override {
    response->set_next_page_token(request->page_token());
    return grpc::Status::OK;
  }
  grpc::Status ListUsage(grpc::ServerContext*, const v1::ListUsageRequest* request,
                         v1::ListUsageResponse* response) override {
    response->add_days()->set_tenant(request->parent());
    return grpc::Status::OK;
  }
  int failures = 0;
};

class FakeWorkerService final : public v1::WorkerService::Service {
 public:
  grpc::Status Sync(grpc::ServerContext* context, const v1::SyncRequest* request,
                    v1::SyncResponse* response) override {
    response->set_term(7);
    reports.push_back(request->report_number());
    if (request->report_number() < held_from) return grpc::Status::OK;
    waiting.Notify();
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  }
  std::vector<int64_t> reports;
  int64_t held_from = 2;
  absl::Notification waiting;
};

class FakeInference final : public v1::InferenceService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest*,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    v1::GenerateResponse response;
    for (const char* text : {"a", "b"}) {
      response.set_text(text);
      writer->Write(response);
    }
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone in the middle");
  }
};

class GrpcClientsTest : public ::testing::Test {
 protected:
  GrpcClientsTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&scheduler_);
    builder.RegisterService(&operators_);
    builder.RegisterService(&worker_service_);
    builder.RegisterService(&inference_);
    server_ = builder.BuildAndStart();
    channel_ = MakeChannel(absl::StrCat("127.0.0.1:", port), "dw_secret");
    channel_.retry.sleep = [](absl::Duration) {};
  }
  FakeScheduler scheduler_;
  FakeOperators operators_;
  FakeWorkerService worker_service_;
  FakeInference inference_;
  std::unique_ptr<grpc::Server> server_;
  Channel channel_;
};

TEST_F(GrpcClientsTest, AnUnavailableServerIsAskedAgainUnderTheSameRequestId) {
  scheduler_.failures = 3;
  const auto job = MakeGrpcTrainingClient(channel_)->CreateJob({});
  ASSERT_TRUE(job.ok()) << job.status();
  ASSERT_THAT(scheduler_.request_ids, SizeIs(4));
  EXPECT_FALSE(scheduler_.request_ids[0].empty());
  for (const std::string& id : scheduler_.request_ids) EXPECT_EQ(id, scheduler_.request_ids[0]);
  EXPECT_EQ(scheduler_.authorization, "Bearer dw_secret");
}

TEST_F(GrpcClientsTest, TheCallersRequestIdIsKept) {
  v1::CreateJobRequest request;
  request.set_request_id("mine");
  ASSERT_TRUE(MakeGrpcTrainingClient(channel_)->CreateJob(request).ok());
  EXPECT_EQ(scheduler_.request_ids[0], "mine");
}

TEST_F(GrpcClientsTest, AnyOtherErrorIsReturnedAsTheServerSaidIt) {
  scheduler_.failures = 1;
  scheduler_.failure = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full");
  const auto job = MakeGrpcTrainingClient(channel_)->CreateJob({});
  EXPECT_EQ(job.status(), absl::ResourceExhaustedError("the queue is full"));
  EXPECT_THAT(scheduler_.request_ids, SizeIs(1));
}

TEST_F(GrpcClientsTest, WhatOperatorsAskIsAskedOfTheRpcOfThatNameAndAgainWhileItIsAway) {
  const auto client = MakeGrpcOperatorClient(channel_);
  operators_.failures = 2;
  v1::SetQuotaRequest set;
  set.mutable_quota()->set_weight(3);
  const auto quota = client->SetQuota(set);
  ASSERT_TRUE(quota.ok()) << quota.status();
  EXPECT_EQ(quota->weight(), 3);
  EXPECT_EQ(client->SetWorkerMode({}).status(), absl::PermissionDeniedError("a tenant's"));
  v1::ListQuotasRequest quotas;
  quotas.set_page_token("next");
  EXPECT_EQ(client->ListQuotas(quotas)->next_page_token(), "next");
  v1::ListUsageRequest usage;
  usage.set_parent("tenants/-");
  EXPECT_EQ(client->ListUsage(usage)->days(0).tenant(), "tenants/-");
}

TEST_F(GrpcClientsTest, AServerThatIsNotThereIsNamed) {
  server_->Shutdown();
  channel_.retry.total_max = absl::ZeroDuration();
  const auto job = MakeGrpcTrainingClient(channel_)->CreateJob({});
  ASSERT_TRUE(absl::IsUnavailable(job.status())) << job.status();
  EXPECT_THAT(std::string(job.status().message()), HasSubstr("scheduler: "));
}

TEST_F(GrpcClientsTest, ASinkThatHasEnoughCancelsTheStream) {
  const absl::Status status = MakeGrpcTrainingClient(channel_)->WatchJob(
      {}, [](const v1::WatchJobResponse&) { return absl::CancelledError("enough"); });
  EXPECT_EQ(status, absl::CancelledError("enough"));
  scheduler_.cancelled.WaitForNotification();
}

TEST_F(GrpcClientsTest, GeneratedTextIsNotAskedForTwice) {
  std::string text;
  const absl::Status status =
      MakeGrpcInferenceClient(channel_)->Generate({}, [&](const v1::GenerateResponse& response) {
        text += response.text();
        return absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(text, "ab");
}

TEST_F(GrpcClientsTest, ASyncIsAnsweredOrGivenUp) {
  const auto client = MakeGrpcWorkerSyncClient(channel_);
  v1::SyncRequest request;
  request.set_report_number(1);
  EXPECT_EQ(client->Sync(request, absl::Seconds(20))->term(), 7);
  client->CancelSync(1);  // Has ended already.

  request.set_report_number(2);
  absl::Status status;
  std::thread poll([&] { status = client->Sync(request, absl::Seconds(60)).status(); });
  worker_service_.waiting.WaitForNotification();
  client->CancelSync(2);
  poll.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST_F(GrpcClientsTest, ASyncGivenUpBeforeItBeginsIsNotSentAndTheNextOneIs) {
  const auto client = MakeGrpcWorkerSyncClient(channel_);
  client->CancelSync(1);
  v1::SyncRequest request;
  request.set_report_number(1);
  const absl::Status status = client->Sync(request, absl::Seconds(20)).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  request.set_report_number(2);
  worker_service_.held_from = 3;
  const auto next = client->Sync(request, absl::Seconds(20));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(worker_service_.reports, std::vector<int64_t>{2});
}

}  // namespace
}  // namespace deltaworks::services
