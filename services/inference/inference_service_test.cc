// Inference over a socket: who may ask for what, text as a stream, a caller that cancels, and a
// server that stops.

#include "services/inference/inference_service.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/server.h"
#include "services/base/token_file.h"
#include "services/inference/inference_server.h"
#include "services/inference/testing/hook_clock.h"
#include "services/inference/testing/inference_world.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

using Stub = v1::InferenceService::Stub;

InferenceCore::Options OneExampleAtATime() {
  InferenceCore::Options options = SmallOptions();
  options.engine.score_rows_max = 1;
  return options;
}

class InferenceServiceTest : public ::testing::Test {
 protected:
  InferenceServiceTest() {
    const std::string tokens = ::testing::TempDir() + "/inference_service_tokens";
    unlink(tokens.c_str());
    platform_token_ = *TokenFile::AddToken(tokens, kAllTenants);
    owner_token_ = *TokenFile::AddToken(tokens, "acme");
    stranger_token_ = *TokenFile::AddToken(tokens, "globex");
    tokens_ = *TokenFile::Open(tokens);
    authenticator_ = std::make_unique<Authenticator>(tokens_.get(), metrics_);
    service_ = std::make_unique<InferenceService>(world_.core(), *authenticator_, RealClock());
    Listen(*service_);
  }

  void Listen(InferenceService& service) {
    auto server = Server::Start({}, *authenticator_, metrics_, RealClock(), {&service});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::InferenceService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }

  void Prepare(grpc::ClientContext& context, const std::string& token) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    context.AddMetadata("authorization", "Bearer " + token);
  }
  grpc::Status Generate(const std::string& token, const v1::GenerateRequest& request,
                        std::vector<v1::GenerateResponse>* messages = nullptr) {
    grpc::ClientContext context;
    Prepare(context, token);
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
      if (messages != nullptr) messages->push_back(message);
    }
    return reader->Finish();
  }
  // The status of every rpc for what acme has, by the rpc's name.
  std::vector<std::pair<std::string, grpc::Status>> AllRpcs(const std::string& token,
                                                            const std::string& parent) {
    std::vector<std::pair<std::string, grpc::Status>> answers;
    for (const char* model : {kTiny, kPoet}) {
      v1::GenerateRequest generate = InferenceWorld::Request(model);
      generate.set_parent(parent);
      std::vector<v1::GenerateResponse> messages;
      answers.emplace_back("Generate", Generate(token, generate, &messages));
      EXPECT_EQ(messages.empty(), !answers.back().second.ok());
      v1::ScoreRequest score = InferenceWorld::ScoreRequest(model);
      score.set_parent(parent);
      score.add_examples()->set_plain_text("the cat");
      grpc::ClientContext context;
      Prepare(context, token);
      v1::ScoreResponse scores;
      answers.emplace_back("Score", stub_->Score(&context, score, &scores));
    }
    return answers;
  }
  grpc::Status List(const std::string& token, const std::string& parent,
                    v1::ListLoadedModelsResponse* response) {
    v1::ListLoadedModelsRequest request;
    request.set_parent(parent);
    grpc::ClientContext context;
    Prepare(context, token);
    return stub_->ListLoadedModels(&context, request, response);
  }

  Metrics metrics_{"inference"};
  HookClock clock_;  // The engine's.
  InferenceWorld world_{OneExampleAtATime(), MakeCpuBackend, clock_};
  std::string platform_token_, owner_token_, stranger_token_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(InferenceServiceTest, NoRpcShowsWhatAnotherTenantHas) {
  v1::ListLoadedModelsResponse models;
  for (const std::string& token : {owner_token_, platform_token_}) {
    for (const auto& [rpc, status] : AllRpcs(token, "tenants/acme")) {
      EXPECT_TRUE(status.ok()) << rpc << ": " << status.error_message();
    }
    EXPECT_TRUE(List(token, "tenants/acme", &models).ok());
    EXPECT_EQ(models.loaded_models_size(), 2);
  }
  for (const auto& [rpc, status] : AllRpcs(stranger_token_, "tenants/acme")) {
    EXPECT_EQ(status.error_code(), grpc::PERMISSION_DENIED) << rpc;
  }
  for (const auto& [rpc, status] : AllRpcs(stranger_token_, "tenants/globex")) {
    EXPECT_EQ(status.error_code(), grpc::NOT_FOUND) << rpc << ": " << status.error_message();
  }
  EXPECT_EQ(List(stranger_token_, "tenants/acme", &models).error_code(), grpc::PERMISSION_DENIED);
  EXPECT_TRUE(List(stranger_token_, "tenants/globex", &models).ok());
  EXPECT_EQ(models.loaded_models_size(), 0);
  for (const auto& [rpc, status] : AllRpcs("nobody", "tenants/acme")) {
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED) << rpc;
  }
  EXPECT_EQ(List("nobody", "tenants/acme", &models).error_code(), grpc::UNAUTHENTICATED);
}

TEST_F(InferenceServiceTest, TheStreamIsWhatTheCoreSaysAndEndsWithItsTimes) {
  std::vector<v1::GenerateResponse> messages;
  ASSERT_TRUE(Generate(owner_token_, InferenceWorld::Request(kPoet), &messages).ok());
  std::string text;
  for (const auto& message : messages) text += message.text();
  EXPECT_EQ(text, world_.Generate(InferenceWorld::Request(kPoet)).text);
  EXPECT_NE(messages.back().finish_reason(), v1::GenerateResponse::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(messages.back().version(), kPoet);
}

TEST_F(InferenceServiceTest, ACallerThatCancelsInTheMiddleEndsItsWork) {
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  request.set_max_new_tokens(100);
  Gate cancelled;
  // From the second token on, each waits for a call on the same connection, which the server reads
  // after the cancellation.
  clock_.hook = [&] {
    if (world_.metrics().generated_tokens.Value() < 1) return;
    cancelled.Await();
    v1::ListLoadedModelsResponse models;
    EXPECT_TRUE(List(owner_token_, "tenants/acme", &models).ok());
  };
  grpc::ClientContext context;
  Prepare(context, owner_token_);
  const auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  cancelled.Open();
  world_.core().Drain(absl::Seconds(60));
  EXPECT_LT(world_.metrics().generated_tokens.Value(), 100);
}

TEST_F(InferenceServiceTest, ACallerThatCancelsAScoreEndsItsWork) {
  v1::ScoreRequest request = InferenceWorld::ScoreRequest(kTiny);
  for (int i = 0; i < 500; ++i) request.add_examples()->set_plain_text("x");
  grpc::ClientContext context;
  Prepare(context, owner_token_);
  // Each pass, of one example, waits for a call that the server reads after the cancellation.
  clock_.hook = [&] {
    if (world_.metrics().scored_tokens.Value() < 1) return;
    context.TryCancel();
    v1::ListLoadedModelsResponse models;
    EXPECT_TRUE(List(owner_token_, "tenants/acme", &models).ok());
  };
  v1::ScoreResponse response;
  EXPECT_EQ(stub_->Score(&context, request, &response).error_code(), grpc::CANCELLED);
  world_.core().Drain(absl::Seconds(60));
  EXPECT_LT(world_.metrics().scored_tokens.Value(), 500);
}

TEST_F(InferenceServiceTest, ACallerThatCancelsOrWhoseTimeIsUpEndsItsWork) {
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  grpc::ClientContext context;
  Prepare(context, owner_token_);
  const auto reader = stub_->Generate(&context, request);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  grpc::ClientContext late;
  late.AddMetadata("authorization", "Bearer " + owner_token_);
  late.set_deadline(std::chrono::system_clock::now());
  EXPECT_EQ(stub_->Generate(&late, request)->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  world_.core().Drain(absl::Seconds(60));
  EXPECT_EQ(world_.core().engine().jobs(), 0);
}

TEST_F(InferenceServiceTest, AServerThatStopsRefusesWithUnavailable) {
  world_.core().Drain(absl::Seconds(60));
  const grpc::Status status = Generate(owner_token_, InferenceWorld::Request(kPoet));
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE) << status.error_message();
}

TEST_F(InferenceServiceTest, AServerIsMadeOfItsOptionsOrSaysWhatIsWrongWithThem) {
  const auto start = [&](const InferenceServer::Options& options) {
    return InferenceServer::Start(options, std::make_unique<FakeStoreClient>(),
                                  std::make_unique<FakeRegistryClient>(), RealClock(), metrics_,
                                  *authenticator_);
  };
  InferenceServer::Options options;
  EXPECT_EQ(start(options).status().message(), "--cache_folder is empty, want a folder");
  options.cache_folder = ::testing::TempDir() + "/inference_server_cache";
  const auto refused = [&](auto change) {
    InferenceServer::Options bad = options;
    change(bad.core.engine, bad.core.loader);
    return std::string(start(bad).status().message());
  };
  const auto expect = [&](const char* message, auto change) {
    EXPECT_EQ(refused(change), message);
  };
  expect("--streams_max is 0, want 1..128", [](auto& e, auto&) { e.streams_max = 0; });
  expect("--queue_max is -1, want 0..128", [](auto& e, auto&) { e.queue_max = -1; });
  // As many calls as the server has threads.
  expect("--streams_max + --queue_max is 129, want 1..128", [](auto& e, auto&) {
    e.streams_max = 28;
    e.queue_max = 101;
  });
  expect("--context_max is 1, want 2..1048576", [](auto& e, auto&) { e.context_max = 1; });
  expect("--kv_tokens_max is 1, want 2..67108864", [](auto& e, auto&) { e.kv_tokens_max = 1; });
  expect("--prompt_rows_max is 0, want 1..131072", [](auto& e, auto&) { e.prompt_rows_max = 0; });
  expect("--score_rows_max is 0, want 1..131072", [](auto& e, auto&) { e.score_rows_max = 0; });
  expect("--base_bytes_max is 0, want 1..1125899906842624",
         [](auto&, auto& l) { l.base_bytes_max = 0; });
  expect("--adapter_bytes_max is 0, want 1..1125899906842624",
         [](auto&, auto& l) { l.adapter_bytes_max = 0; });
  expect("--merged_bytes_max is 0, want 1..1125899906842624",
         [](auto&, auto& l) { l.merged_bytes_max = 0; });
  options.core.engine.streams_max = 28;
  options.core.engine.queue_max = 100;
  options.compute.cores = {123456};
  EXPECT_THAT(std::string(start(options).status().message()), HasSubstr("123456"));
  options.compute.cores = {};
  auto server = start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  server_.reset();
  Listen((*server)->service());
  EXPECT_EQ(Generate(owner_token_, InferenceWorld::Request(kTiny)).error_code(), grpc::NOT_FOUND);
  (*server)->Drain(absl::Seconds(60));
  server_.reset();
}

}  // namespace
}  // namespace deltaworks::services
