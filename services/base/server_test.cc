// What every server must do before any handler is asked: who calls, how much, and how it ends.

#include "services/base/server.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/store_service.grpc.pb.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/health_check.h"
#include "services/base/metrics.h"
#include "services/base/status_conversion.h"
#include "services/base/testing/raw_call.h"
#include "services/base/token_file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

// Answers GetDataset with the caller's tenant; GetBaseModel waits until it is let go.
class FakeStore final : public v1::StoreService::Service {
 public:
  explicit FakeStore(const Authenticator& authenticator) : authenticator_(authenticator) {}
  grpc::Status GetDataset(grpc::ServerContext* context, const v1::GetDatasetRequest*,
                          v1::Dataset* dataset) override {
    const auto caller = authenticator_.CallerOf(*context);
    if (!caller.ok()) return ToGrpcStatus(caller.status());
    dataset->set_display_name(caller->tenant);
    return grpc::Status::OK;
  }
  grpc::Status GetBaseModel(grpc::ServerContext* context, const v1::GetBaseModelRequest*,
                            v1::BaseModel*) override {
    waiting_.Notify();
    while (!let_go_.WaitForNotificationWithTimeout(absl::Milliseconds(5))) {
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
    }
    return grpc::Status::OK;
  }
  absl::Notification waiting_;
  absl::Notification let_go_;

 private:
  const Authenticator& authenticator_;
};

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    const std::string path = ::testing::TempDir() + "/server_tokens";
    unlink(path.c_str());
    token_ = *TokenFile::AddToken(path, "acme");
    tokens_ = *TokenFile::Open(path);
    authenticator_ = std::make_unique<Authenticator>(tokens_.get(), metrics_);
    store_ = std::make_unique<FakeStore>(*authenticator_);
    auto server = Start("127.0.0.1:0");
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->SetServing(true);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::StoreService::NewStub(channel_);
  }

  absl::StatusOr<std::unique_ptr<Server>> Start(const std::string& address) {
    return Server::Start({.address = address}, *authenticator_, metrics_, RealClock(),
                         {store_.get()});
  }

  grpc::Status GetDataset(const std::string& authorization, v1::Dataset& dataset,
                          const std::string& name = "") {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    v1::GetDatasetRequest request;
    request.set_name(name);
    return stub_->GetDataset(&context, request, &dataset);
  }

  Metrics metrics_{"store"};
  std::string token_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<FakeStore> store_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::StoreService::Stub> stub_;
  v1::Dataset dataset_;
};

TEST_F(ServerTest, ACallWithoutAValidTokenNeverReachesAHandler) {
  for (const std::string& authorization :
       {std::string(), std::string("Bearer "), std::string("Bearer dw_guess"), token_}) {
    const grpc::Status status = GetDataset(authorization, dataset_);
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED) << authorization;
    EXPECT_THAT(status.error_message(), HasSubstr("want \"Bearer TOKEN\""));
  }
  EXPECT_THAT(metrics_.Text(), HasSubstr("deltaworks_rpc_unauthenticated_total 4"));
}

TEST_F(ServerTest, AHandlerLearnsTheTenantOfTheToken) {
  ASSERT_TRUE(GetDataset("Bearer " + token_, dataset_).ok());
  EXPECT_EQ(dataset_.display_name(), "acme");
}

TEST_F(ServerTest, HealthNeedsNoTokenAndTellsWhetherTheServerServes) {
  EXPECT_TRUE(CheckHealth(channel_, absl::Seconds(20)).ok());
  server_->SetServing(false);
  EXPECT_TRUE(absl::IsUnavailable(CheckHealth(channel_, absl::Seconds(20))));
}

TEST_F(ServerTest, EveryCallIsCountedByMethodAndCode) {
  ASSERT_TRUE(GetDataset("Bearer " + token_, dataset_).ok());
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + token_);
  v1::ListPinsResponse pins;
  EXPECT_EQ(stub_->ListPins(&context, {}, &pins).error_code(), grpc::UNIMPLEMENTED);
  // The status is on the wire before the interceptor of the same call has ended.
  server_->Stop(absl::Seconds(5));
  const std::string text = metrics_.Text();
  EXPECT_THAT(text, HasSubstr("deltaworks_rpc_requests_total{code=\"OK\",method=\"StoreService/"
                              "GetDataset\"} 1"));
  EXPECT_THAT(text, HasSubstr("deltaworks_rpc_requests_total{code=\"UNIMPLEMENTED\",method="
                              "\"StoreService/ListPins\"} 1"));
  EXPECT_THAT(text, HasSubstr("deltaworks_rpc_in_flight 0"));
}

TEST_F(ServerTest, AMessageAboveTheLimitIsRefusedAndTheNextOneIsNot) {
  const std::string big(size_t{5} << 20, 'x');
  EXPECT_EQ(GetDataset("Bearer " + token_, dataset_, big).error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(GetDataset("Bearer " + token_, dataset_, std::string(4 << 20, 'x')).ok());
}

TEST_F(ServerTest, APortInUseIsAClearError) {
  const auto second = Start(server_->address());
  ASSERT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_EQ(second.status().message(),
            absl::StrCat("address is ", server_->address(),
                         ": in use by another process; stop it or choose another"));
}

TEST_F(ServerTest, PlaintextIsForLoopbackOnly) {
  const auto server = Start("0.0.0.0:0");
  ASSERT_TRUE(absl::IsInvalidArgument(server.status())) << server.status();
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("want a loopback address"));
}

TEST_F(ServerTest, StoppingLetsACallUnderWayEnd) {
  grpc::Status status;
  std::thread call([&] {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token_);
    v1::BaseModel model;
    status = stub_->GetBaseModel(&context, {}, &model);
  });
  store_->waiting_.WaitForNotification();
  std::thread stop([&] { server_->Stop(absl::Seconds(60)); });
  while (CheckHealth(channel_, absl::Seconds(20)).ok()) std::this_thread::yield();
  // A new call is refused meanwhile, in a way that tells the client to repeat it.
  grpc::StatusCode code = grpc::OK;
  while (code == grpc::OK) code = GetDataset("Bearer " + token_, dataset_).error_code();
  EXPECT_EQ(code, grpc::UNAVAILABLE);
  store_->let_go_.Notify();
  stop.join();
  call.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(ServerTest, StoppingCutsACallThatDoesNotEndByTheDeadline) {
  grpc::Status status;
  std::thread call([&] {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token_);
    v1::BaseModel model;
    status = stub_->GetBaseModel(&context, {}, &model);
  });
  store_->waiting_.WaitForNotification();
  server_->Stop(absl::Milliseconds(10));
  call.join();
  EXPECT_FALSE(status.ok());
}

TEST_F(ServerTest, AMessageThatAnnouncesFourGigabytesIsCutOffBeforeItFillsTheMemory) {
  constexpr int64_t kEnhanceYourCalm = 0xb;  // A gRPC client reads it as RESOURCE_EXHAUSTED.
  constexpr int64_t kMemoryMax = int64_t{32} << 20;
  auto server = Server::Start({.memory_bytes_max = kMemoryMax}, *authenticator_, metrics_,
                              RealClock(), {store_.get()});
  ASSERT_TRUE(server.ok()) << server.status();
  RawCall call((*server)->port(), "/deltaworks.v1.StoreService/GetDataset", token_);
  EXPECT_EQ(call.Pour(0xFFFFFFFF), kEnhanceYourCalm);
  EXPECT_LT(call.poured(), 2 * kMemoryMax);

  const auto stub = v1::StoreService::NewStub(
      grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + token_);
  EXPECT_TRUE(stub->GetDataset(&context, {}, &dataset_).ok());
}

}  // namespace
}  // namespace deltaworks::services
