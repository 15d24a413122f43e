// What inference promises: an adapter answers the same whoever else is answered, before and after,
// in either mode; on its own base only; scores are what training counts; nobody sees another
// tenant's; and a request that cannot be answered says what is wrong with it. On a tiny random
// model, with store and registry in memory.

#include "services/inference/inference_core.h"

#include <cmath>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/inference/testing/inference_world.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/data/text_encoder.h"
#include "trainer/formats/manifest.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/weights.h"
#include "trainer/tokenizer/chat_template.h"
#include "trainer/tokenizer/tokenizer.h"
#include "trainer/train/cohort.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr auto kMerged = v1::ModelSelector::MERGED;
constexpr auto kUnmerged = v1::ModelSelector::UNMERGED;

class InferenceCoreTest : public ::testing::Test {
 protected:
  Answer Generate(const std::string& model, v1::ModelSelector::Mode mode = kUnmerged) {
    Answer answer = world_.Generate(InferenceWorld::Request(model, mode));
    EXPECT_TRUE(answer.status.ok()) << model << ": " << answer.status;
    return answer;
  }
  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) {
    return world_.core().Score(kAcme, request, {});
  }
  static v1::ScoreRequest ThreeExamples(const std::string& model) {
    v1::ScoreRequest request = InferenceWorld::ScoreRequest(model);
    request.add_examples()->set_plain_text("the cat sat on the mat");
    v1::PromptCompletion& pair = *request.add_examples()->mutable_prompt_completion();
    pair.set_prompt("a question");
    pair.set_completion(" an answer");
    v1::Chat& chat = *request.add_examples()->mutable_chat();
    for (const auto& [role, content] : {std::pair("user", "hello"), std::pair("assistant", "ho")}) {
      v1::ChatMessage& message = *chat.add_messages();
      message.set_role(role);
      message.set_content(content);
    }
    return request;
  }

  InferenceWorld world_;
};

// ---- Adapters ----

TEST_F(InferenceCoreTest, AnAdapterAnswersTheSameBeforeAndAfterAnotherInEitherMode) {
  const std::string file = world_.BaseFolder(kTiny) + "/" + trainer::kWeightsFile;
  const std::string before = Sha256Digest(*ReadFile(file));
  const Answer base = Generate(kTiny);
  for (const auto mode : {kUnmerged, kMerged}) {
    const Answer first = Generate(kPoet, mode), other = Generate(kCoder, mode),
                 again = Generate(kPoet, mode);
    EXPECT_EQ(first.tokens, again.tokens);
    EXPECT_EQ(first.text, again.text);
    EXPECT_NE(first.tokens, other.tokens);
    EXPECT_NE(first.tokens, base.tokens);
    EXPECT_EQ(first.last().version(), kPoet);
    EXPECT_EQ(other.last().version(), kCoder);
  }
  EXPECT_EQ(Generate(kTiny).tokens, base.tokens);
  EXPECT_EQ(base.last().version(), "");
  // The base was mapped once, and nobody wrote to it.
  EXPECT_EQ(Sha256Digest(*ReadFile(file)), before);
  EXPECT_TRUE(trainer::VerifyModelFolder(world_.BaseFolder(kTiny)).ok());
  EXPECT_EQ(world_.Metric("deltaworks_inference_loads_total{kind=\"base\"}"), 1);
}

TEST_F(InferenceCoreTest, AnAnswerDoesNotDependOnItsNeighbours) {
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 12; ++i) {
    const char* models[] = {kTiny, kPoet, kCoder};
    requests.push_back(InferenceWorld::Request(models[i % 3], i % 2 == 0 ? kUnmerged : kMerged));
    requests.back().set_prompt(absl::StrCat("prompt number ", i, std::string(i * 5, 'x')));
    requests.back().set_max_new_tokens(5 + i);
    if (i % 4 == 0) requests.back().set_temperature(1);
    requests.back().set_seed(i);
  }
  std::vector<Answer> alone, together(requests.size());
  for (const auto& request : requests) alone.push_back(world_.Generate(request));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = world_.Generate(requests[i]); });
  }
  // Scores come in between.
  const auto score = Score(ThreeExamples(kPoet));
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(score.ok()) << score.status();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status;
    EXPECT_EQ(together[i].tokens, alone[i].tokens) << i;
    EXPECT_EQ(together[i].text, alone[i].text) << i;
  }
}

TEST_F(InferenceCoreTest, MergedSaysWhatUnmergedSays) {
  EXPECT_EQ(Generate(kPoet, kMerged).tokens, Generate(kPoet, kUnmerged).tokens);
  v1::ScoreRequest request = ThreeExamples(kPoet);
  const auto unmerged = Score(request);
  request.mutable_model()->set_mode(kMerged);
  const auto merged = Score(request);
  ASSERT_TRUE(unmerged.ok() && merged.ok()) << unmerged.status() << merged.status();
  for (int i = 0; i < unmerged->scores_size(); ++i) {
    // Sums of up to 64 products in f32, through 2 layers: 64 * 2^-23 * 2 layers * 7 linears, and a
    // factor of 8 for the growth between them.
    const double loss = unmerged->scores(i).negative_log_likelihood();
    EXPECT_NEAR(merged->scores(i).negative_log_likelihood(), loss,
                64 * std::ldexp(1, -23) * 14 * 8 * loss);
    EXPECT_NE(loss, 0);
  }
}

TEST_F(InferenceCoreTest, AnAdapterRunsOnAnotherFormOfItsBaseIfAskedTo) {
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  request.mutable_model()->set_base_model(kTinyBf16);
  const Answer answer = world_.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(world_.Metric("deltaworks_inference_loads_total{kind=\"base\"}"), 1);
  Generate(kPoet);
  EXPECT_EQ(world_.Metric("deltaworks_inference_loads_total{kind=\"base\"}"), 2);
}

TEST_F(InferenceCoreTest, AnAdapterIsRefusedOnAnotherBaseWithBothDigests) {
  const std::string mine = world_.BaseModel(kTiny).source_digest();
  const std::string other = world_.BaseModel(kOther).source_digest();
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  request.mutable_model()->set_base_model(kOther);
  absl::Status status = world_.Generate(request).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(mine));
  EXPECT_THAT(std::string(status.message()), HasSubstr(other));
  // A file that says otherwise than the registry is believed.
  const std::string liar = world_.AddVersion("tenants/acme/adapters/liar", 3, other);
  for (const auto mode : {kUnmerged, kMerged}) {
    status = world_.Generate(InferenceWorld::Request(liar, mode)).status;
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_EQ(status.message(),
              absl::StrCat(liar, " is bound to base ", other, ", but the base is ", mine));
  }
}

TEST_F(InferenceCoreTest, AnAliasAndAnAdapterNameTheirVersion) {
  const std::string second = world_.AddVersion("tenants/acme/adapters/poet", 5);
  v1::SetAliasRequest alias;
  alias.mutable_alias()->set_name("tenants/acme/adapters/poet/aliases/champion");
  alias.mutable_alias()->set_version(kPoet);
  ASSERT_TRUE(world_.registry().SetAlias(alias).ok());
  EXPECT_EQ(Generate(alias.alias().name()).last().version(), kPoet);
  EXPECT_EQ(Generate("tenants/acme/adapters/poet").last().version(), second);
}

TEST_F(InferenceCoreTest, WhatIsNotReadyIsRefusedWithTheReason) {
  absl::Status status = world_.Generate(InferenceWorld::Request(kImporting)).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(status.message(), absl::StrCat(kImporting, " is IMPORTING, want READY"));
  v1::Failure failure;
  failure.set_message("a number is not finite");
  world_.registry().Reject(failure);
  const std::string rejected = world_.AddVersion("tenants/acme/adapters/bad", 9);
  status = world_.Generate(InferenceWorld::Request(rejected)).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(status.message(), rejected + " is REJECTED: a number is not finite, want READY");
  status = world_.Generate(InferenceWorld::Request("tenants/acme/adapters/none")).status;
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_F(InferenceCoreTest, ADamagedAdapterIsNotLoaded) {
  auto files = world_.MakeFiles(1, world_.BaseModel(kTiny).source_digest());
  files.adapter_model[files.adapter_model.size() - 1] ^= 1;
  world_.registry().PutVersionFiles(kPoet, {{trainer::kAdapterConfigFile, files.adapter_config},
                                            {trainer::kAdapterModelFile, files.adapter_model}});
  const absl::Status status = world_.Generate(InferenceWorld::Request(kPoet)).status;
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(Sha256Digest(files.adapter_model)));
}

// ---- Memory ----

TEST_F(InferenceCoreTest, ConcurrentRequestsLoadAModelOnce) {
  std::vector<std::thread> threads;
  std::vector<Answer> answers(8);
  for (Answer& answer : answers) {
    threads.emplace_back(
        [&] { answer = world_.Generate(InferenceWorld::Request(kPoet, kMerged)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Answer& answer : answers) {
    EXPECT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.tokens, answers[0].tokens);
  }
  EXPECT_EQ(world_.registry().download_calls(), 2);  // Two files.
  EXPECT_EQ(world_.Metric("deltaworks_inference_loads_total{kind=\"merged\"}"), 1);
}

TEST(InferenceMemoryTest, AdaptersBeyondTheBoundMakeRoomAndAnswerAsBefore) {
  InferenceCore::Options options = SmallOptions();
  InferenceWorld measuring;
  ASSERT_TRUE(measuring.Generate(InferenceWorld::Request(kPoet)).status.ok());
  ASSERT_TRUE(measuring.Generate(InferenceWorld::Request(kPoet, kMerged)).status.ok());
  const auto bytes = [&](const char* kind) {
    return static_cast<int64_t>(
        measuring.Metric(absl::StrCat("deltaworks_inference_loaded_bytes{kind=\"", kind, "\"}")));
  };
  options.loader.adapter_bytes_max = bytes("adapter") * 3 / 2;
  options.loader.merged_bytes_max = bytes("merged") * 3 / 2;
  InferenceWorld world(options);
  for (const auto mode : {kUnmerged, kMerged}) {
    const Answer first = world.Generate(InferenceWorld::Request(kPoet, mode));
    const Answer other = world.Generate(InferenceWorld::Request(kCoder, mode));
    ASSERT_TRUE(other.status.ok()) << other.status;
    const Answer again = world.Generate(InferenceWorld::Request(kPoet, mode));
    ASSERT_TRUE(again.status.ok()) << again.status;
    EXPECT_EQ(first.tokens, again.tokens);
  }
  EXPECT_EQ(world.Metric("deltaworks_inference_evictions_total"), 4);
  EXPECT_EQ(world.Metric("deltaworks_inference_loaded_bytes{kind=\"adapter\"}"), bytes("adapter"));
  EXPECT_EQ(world.Metric("deltaworks_inference_loaded_bytes{kind=\"merged\"}"), bytes("merged"));

  options.loader.merged_bytes_max = 1000;
  InferenceWorld small(options);
  const absl::Status status = small.Generate(InferenceWorld::Request(kPoet, kMerged)).status;
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--merged_bytes_max = 1000"));
}

TEST_F(InferenceCoreTest, TheListHasWhatTheTenantLoadedPageByPage) {
  Generate(kPoet);
  Generate(kPoet);
  Generate(kPoet, kMerged);
  Generate(kCoder);
  Generate(kTiny);
  v1::GenerateRequest theirs = InferenceWorld::Request(kTheirs);
  theirs.set_parent("tenants/globex");
  ASSERT_TRUE(world_.Generate(theirs, {"globex"}).status.ok());
  v1::ListLoadedModelsRequest request;
  request.set_parent("tenants/acme");
  request.set_page_size(3);
  std::vector<std::string> lines;
  for (int pages = 0; pages < 2; ++pages) {
    const auto page = world_.core().ListLoadedModels(kAcme, request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::LoadedModel& model : page->loaded_models()) {
      lines.push_back(absl::StrCat(model.name(), " ", v1::ModelSelector::Mode_Name(model.mode()),
                                   " ", model.request_count()));
      EXPECT_EQ(model.base_source_digest(), world_.BaseModel(kTiny).source_digest());
      EXPECT_GT(model.memory_bytes(), 0);
    }
    request.set_page_token(page->next_page_token());
  }
  EXPECT_EQ(request.page_token(), "");
  EXPECT_THAT(
      lines,
      ElementsAre(absl::StrCat(kCoder, " UNMERGED 1"), absl::StrCat(kPoet, " UNMERGED 2"),
                  absl::StrCat(kPoet, " MERGED 1"), absl::StrCat(kTiny, " MODE_UNSPECIFIED 1")));
  // The other tenant's base is the same bytes, mapped once.
  EXPECT_EQ(world_.Metric("deltaworks_inference_loads_total{kind=\"base\"}"), 1);
}

TEST_F(InferenceCoreTest, AVersionOnBothFormsOfItsBaseIsOneEntryAndNoPageDropsOne) {
  Generate(kPoet);
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  request.mutable_model()->set_base_model(kTinyBf16);
  ASSERT_TRUE(world_.Generate(request).status.ok());
  v1::ListLoadedModelsRequest list;
  list.set_parent("tenants/acme");
  list.set_page_size(1);
  std::vector<std::string> lines;
  int64_t adapter_bytes = 0;
  do {
    const auto page = world_.core().ListLoadedModels(kAcme, list);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_THAT(page->loaded_models(), SizeIs(1));
    const v1::LoadedModel& model = page->loaded_models(0);
    lines.push_back(absl::StrCat(model.name(), " ", model.request_count()));
    if (model.name() == kPoet) adapter_bytes += model.memory_bytes();
    list.set_page_token(page->next_page_token());
  } while (!list.page_token().empty());
  EXPECT_THAT(lines, ElementsAre(absl::StrCat(kPoet, " 2"), absl::StrCat(kTiny, " 0"),
                                 absl::StrCat(kTinyBf16, " 0")));
  EXPECT_EQ(adapter_bytes, world_.Metric("deltaworks_inference_loaded_bytes{kind=\"adapter\"}"));
}

// ---- Tenants ----

TEST_F(InferenceCoreTest, NothingOfAnotherTenantCanBeNamed) {
  const Caller stranger{"globex"};
  v1::ListLoadedModelsRequest list;
  list.set_parent("tenants/acme");
  EXPECT_TRUE(absl::IsPermissionDenied(world_.core().ListLoadedModels(stranger, list).status()));
  for (const char* model : {kTiny, kPoet, "tenants/acme/adapters/none"}) {
    v1::GenerateRequest generate = InferenceWorld::Request(model);
    EXPECT_TRUE(absl::IsPermissionDenied(world_.Generate(generate, stranger).status));
    v1::ScoreRequest score = ThreeExamples(model);
    EXPECT_TRUE(absl::IsPermissionDenied(world_.core().Score(stranger, score, {}).status()));
    generate.set_parent("tenants/globex");
    score.set_parent("tenants/globex");
    for (const Caller& caller : {stranger, Caller{kAllTenants}}) {
      const absl::Status status = world_.Generate(generate, caller).status;
      EXPECT_TRUE(absl::IsNotFound(status)) << status;
      EXPECT_EQ(status.message(), absl::StrCat(model, " does not exist"));
      EXPECT_EQ(world_.core().Score(caller, score, {}).status(), status);
    }
  }
  v1::GenerateRequest override_base = InferenceWorld::Request(kPoet);
  override_base.mutable_model()->set_base_model(kTheirs);
  EXPECT_TRUE(absl::IsNotFound(world_.Generate(override_base).status));
  // A service may ask for a tenant.
  EXPECT_TRUE(world_.Generate(InferenceWorld::Request(kPoet), {kAllTenants}).status.ok());
}

// ---- Generate ----

TEST_F(InferenceCoreTest, OnlyTheLastMessageCarriesHowItEnded) {
  const Answer answer = Generate(kPoet);
  for (size_t i = 0; i + 1 < answer.messages.size(); ++i) {
    v1::GenerateResponse rest = answer.messages[i];
    rest.clear_text();
    rest.clear_token_ids();
    EXPECT_EQ(rest.ByteSizeLong(), 0u) << rest.DebugString();
  }
  const v1::GenerateResponse& last = answer.last();
  EXPECT_EQ(last.prompt_tokens(), 6);  // "t", "he" and four single letters.
  EXPECT_EQ(last.generated_tokens(), static_cast<int64_t>(answer.tokens.size()));
  EXPECT_TRUE(last.has_queue_time() && last.has_switch_time() && last.has_prefill_time() &&
              last.has_decode_time());
  EXPECT_EQ(last.finish_reason(), v1::GenerateResponse::LENGTH);
  const auto tokenizer = *trainer::Tokenizer::FromFolder(world_.BaseFolder(kTiny));
  EXPECT_EQ(answer.text, tokenizer->Decode(answer.tokens, /*skip_special=*/true));
}

TEST_F(InferenceCoreTest, TheSameSeedGivesTheSameTokens) {
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  request.set_temperature(1.5);
  request.set_top_p(0.95);
  request.set_top_k(100);
  request.set_seed(-7);
  const Answer first = world_.Generate(request), again = world_.Generate(request);
  ASSERT_TRUE(first.status.ok()) << first.status;
  EXPECT_EQ(first.tokens, again.tokens);
  request.set_seed(8);
  EXPECT_NE(world_.Generate(request).tokens, first.tokens);
}

TEST_F(InferenceCoreTest, AStopTextEndsTheAnswerBeforeIt) {
  const Answer whole = Generate(kPoet);
  ASSERT_GE(whole.text.size(), 6u);
  // Cut where a character begins.
  size_t begin = whole.text.size() / 2;
  while ((static_cast<unsigned char>(whole.text[begin]) & 0xc0) == 0x80) ++begin;
  const std::string stop = whole.text.substr(begin);
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  request.add_stop("is not there");
  request.add_stop(stop);
  const Answer answer = world_.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(answer.last().finish_reason(), v1::GenerateResponse::STOP);
}

TEST_F(InferenceCoreTest, AChatGoesThroughTheTemplateOfTheBase) {
  v1::GenerateRequest request = InferenceWorld::Request(kTiny);
  request.set_prompt("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
  const Answer by_hand = world_.Generate(request);
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hello");
  const Answer chat = world_.Generate(request);
  ASSERT_TRUE(chat.status.ok()) << chat.status;
  EXPECT_EQ(chat.tokens, by_hand.tokens);
  EXPECT_EQ(chat.last().prompt_tokens(), by_hand.last().prompt_tokens());
  message.set_content("a <|im_end|> in it");
  const absl::Status status = world_.Generate(request).status;
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("messages[0].content"));
}

TEST_F(InferenceCoreTest, ALongPromptIsRefusedWithBothLengthsAndOneThatFitsEndsWithTheContext) {
  const int64_t context = world_.core().engine().ContextOf(world_.config());
  v1::GenerateRequest request = InferenceWorld::Request(kTiny);
  request.set_prompt(std::string(context, 'x'));
  const absl::Status status = world_.Generate(request).status;
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(status.message(), absl::StrCat("the prompt has ", context,
                                           " tokens, want fewer than the context of ", context));
  request.set_prompt(std::string(context - 3, 'x'));
  const Answer answer = world_.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_LE(answer.tokens.size(), 3u);
}

TEST_F(InferenceCoreTest, EveryFieldOutOfBoundsIsNamed) {
  using Change = std::function<void(v1::GenerateRequest&)>;
  const std::map<std::string, Change> cases = {
      {"parent is \"\", want tenants/{tenant}", [](auto& r) { r.clear_parent(); }},
      {"model.model is \"\"", [](auto& r) { r.clear_model(); }},
      {"model.model is \"tenants/acme/jobs/j\"",
       [](auto& r) { r.mutable_model()->set_model("tenants/acme/jobs/j"); }},
      {"model.mode is 7",
       [](auto& r) { r.mutable_model()->set_mode(static_cast<v1::ModelSelector::Mode>(7)); }},
      {"model.base_model is \"x\"", [](auto& r) { r.mutable_model()->set_base_model("x"); }},
      {"want it empty",
       [](auto& r) {
         r.mutable_model()->set_model(kTiny);
         r.mutable_model()->set_base_model(kTiny);
       }},
      {"prompt and chat are absent", [](auto& r) { r.clear_prompt(); }},
      {"prompt is empty", [](auto& r) { r.set_prompt(""); }},
      {"chat.messages has 0 messages, want 1..1000", [](auto& r) { r.mutable_chat(); }},
      {"chat.messages[0].role is \"bot\"",
       [](auto& r) { r.mutable_chat()->add_messages()->set_role("bot"); }},
      {"chat.messages[0].content has 1048577 bytes",
       [](auto& r) {
         v1::ChatMessage& message = *r.mutable_chat()->add_messages();
         message.set_role("user");
         message.set_content(std::string((1 << 20) + 1, 'x'));
       }},
      {"max_new_tokens is -1, want 1..131072", [](auto& r) { r.set_max_new_tokens(-1); }},
      {"max_new_tokens is 131073", [](auto& r) { r.set_max_new_tokens(131073); }},
      {"temperature is -0.5, want 0..10", [](auto& r) { r.set_temperature(-0.5); }},
      {"temperature is nan", [](auto& r) { r.set_temperature(std::nan("")); }},
      {"top_p is 1.5", [](auto& r) { r.set_top_p(1.5); }},
      {"top_k is -2", [](auto& r) { r.set_top_k(-2); }},
      {"stop has 17 texts, want at most 16",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_stop("x");
       }},
      {"stop[0] has 0 bytes, want 1..256", [](auto& r) { r.add_stop(""); }},
      {"stop[0] has 257 bytes", [](auto& r) { r.add_stop(std::string(257, 'x')); }},
  };
  for (const auto& [message, change] : cases) {
    v1::GenerateRequest request = InferenceWorld::Request(kPoet);
    change(request);
    const absl::Status status = world_.Generate(request).status;
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << message << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST_F(InferenceCoreTest, ACallerThatGoesAwayEndsItsCall) {
  CallControl control;
  control.cancelled = [] { return true; };
  const auto nothing = [](const v1::GenerateResponse&) { return true; };
  EXPECT_TRUE(absl::IsCancelled(
      world_.core().Generate(kAcme, InferenceWorld::Request(kPoet), control, nothing)));
  EXPECT_TRUE(
      absl::IsCancelled(world_.core().Score(kAcme, ThreeExamples(kPoet), control).status()));
  EXPECT_TRUE(
      absl::IsCancelled(world_.core().Generate(kAcme, InferenceWorld::Request(kPoet), {},
                                               [](const v1::GenerateResponse&) { return false; })));
  control = {.deadline = absl::ZeroDuration()};
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      world_.core().Generate(kAcme, InferenceWorld::Request(kPoet), control, nothing)));
  world_.core().Drain(absl::Seconds(60));
  EXPECT_EQ(world_.core().engine().jobs(), 0);
  EXPECT_TRUE(absl::IsUnavailable(
      world_.core().Generate(kAcme, InferenceWorld::Request(kPoet), {}, nothing)));
}

// ---- Bounds and metrics ----

TEST(InferenceBoundsTest, TheContextIsTheFlagsIfThatIsShorterThanTheBases) {
  InferenceCore::Options options = SmallOptions();
  options.engine.context_max = 40;
  InferenceWorld world(options);
  v1::GenerateRequest request = InferenceWorld::Request(kTiny);
  request.set_prompt(std::string(40, 'x'));
  EXPECT_EQ(world.Generate(request).status.message(),
            "the prompt has 40 tokens, want fewer than the context of 40");
  request.set_prompt(std::string(38, 'x'));
  const Answer answer = world.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_LE(answer.tokens.size(), 2u);
  v1::ScoreRequest score = InferenceWorld::ScoreRequest(kTiny);
  score.add_examples()->set_plain_text(std::string(40, 'x'));
  EXPECT_EQ(world.core().Score(kAcme, score, {}).status().message(),
            "examples[0]: the example has 41 tokens, want at most max_length = 40");
}

TEST_F(InferenceCoreTest, TokensAndTimesOfEveryRequestAreCounted) {
  const Answer answer = Generate(kPoet);
  const auto scores = Score(ThreeExamples(kPoet));
  ASSERT_TRUE(scores.ok()) << scores.status();
  int64_t scored = 0;
  for (const v1::ExampleScore& score : scores->scores()) scored += score.token_count();
  const auto tokens = [&](const char* kind) {
    return world_.Metric(absl::StrCat("deltaworks_inference_tokens_total{kind=\"", kind, "\"}"));
  };
  EXPECT_EQ(tokens("prompt"), answer.last().prompt_tokens());
  EXPECT_EQ(tokens("generated"), answer.last().generated_tokens());
  EXPECT_EQ(tokens("scored"), scored);
  for (const char* name : {"queue_duration_seconds", "switch_duration_seconds",
                           "first_token_duration_seconds", "decode_tokens_per_second"}) {
    EXPECT_EQ(world_.Metric(absl::StrCat("deltaworks_inference_", name, "_count")), 1) << name;
    EXPECT_GT(world_.Metric(absl::StrCat("deltaworks_inference_", name, "_sum")), 0) << name;
  }
}

// ---- Score ----

TEST_F(InferenceCoreTest, AScoreIsTheLossThatTrainingCounts) {
  const v1::ScoreRequest request = ThreeExamples(kPoet);
  const auto scores = Score(request);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_EQ(scores->version(), kPoet);
  ASSERT_THAT(scores->scores(), SizeIs(3));

  // The trainer library by itself, on the same files.
  const std::string folder = world_.BaseFolder(kTiny);
  const auto weights = *trainer::ModelWeights::Open(folder);
  const auto backend = *MakeCpuBackend(trainer::DType::kF32);
  const auto model = *trainer::Llama::Create(*backend, weights->config(), weights->tensors(),
                                             {.positions_max = 128});
  const auto tokenizer = *trainer::Tokenizer::FromFolder(folder);
  const auto files = world_.MakeFiles(1, "");
  const auto adapter =
      *trainer::ParsePeft(files.adapter_model, files.adapter_config, model->modules());
  const trainer::TextEncoder encoder(
      *tokenizer, trainer::MakeChatRenderer(trainer::ChatTemplate::FromFolder(folder)), {});
  const trainer::Record records[] = {
      {.form = trainer::RecordForm::kText, .text = "the cat sat on the mat"},
      {.form = trainer::RecordForm::kPromptCompletion,
       .prompt = "a question",
       .completion = " an answer"},
      {.form = trainer::RecordForm::kChat, .messages = {{"user", "hello"}, {"assistant", "ho"}}}};
  for (int i = 0; i < 3; ++i) {
    auto data = std::make_shared<trainer::TrainingData>();
    data->train.push_back(*encoder.Encode(records[i]));
    trainer::TrainingConfig config;
    config.lora = adapter.config;
    config.max_steps = 1;
    const auto run = *trainer::TrainingRun::Create(*model, config, data, {});
    ASSERT_TRUE(run->StartFrom(adapter.values).ok());
    trainer::Cohort cohort(*model);
    const trainer::PassResult pass = cohort.Pass({run.get()});
    ASSERT_TRUE(pass.status.ok() && pass.metrics.size() == 1) << pass.status;
    const v1::ExampleScore& score = scores->scores(i);
    EXPECT_EQ(score.label_tokens(), data->train[0].label_count());
    EXPECT_EQ(score.token_count(), data->train[0].tokens());
    EXPECT_EQ(score.negative_log_likelihood() / static_cast<double>(score.label_tokens()),
              pass.metrics.front().metrics.loss);
  }
}

TEST_F(InferenceCoreTest, AScoreDoesNotDependOnTheOtherExamples) {
  const v1::ScoreRequest request = ThreeExamples(kPoet);
  v1::ScoreRequest many = request;
  for (int i = 0; i < 100; ++i) {
    many.add_examples()->set_plain_text(std::string(20 + i, static_cast<char>('a' + i % 26)));
  }
  const auto together = Score(many);
  ASSERT_TRUE(together.ok()) << together.status();
  EXPECT_THAT(together->scores(), SizeIs(103));
  for (int i = 0; i < 3; ++i) {
    v1::ScoreRequest one = request;
    one.clear_examples();
    *one.add_examples() = request.examples(i);
    EXPECT_EQ(Score(one)->scores(0).SerializeAsString(), together->scores(i).SerializeAsString());
  }
}

TEST_F(InferenceCoreTest, TooLongExamplesAreRefusedCutOrLeftOutAsAskedFor) {
  v1::ScoreRequest request = ThreeExamples(kPoet);
  request.add_examples()->set_plain_text(std::string(300, 'x'));
  request.mutable_text()->set_max_length(100);
  const absl::Status status = Score(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(status.message(),
            "examples[3]: the example has 301 tokens, want at most max_length = 100");
  request.mutable_text()->set_truncation(v1::TextSettings::TRUNCATE);
  const auto cut = Score(request);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->scores(3).token_count(), 100);
  EXPECT_EQ(cut->scores(3).label_tokens(), 99);
  request.mutable_text()->set_truncation(v1::TextSettings::SKIP);
  const auto left_out = Score(request);
  ASSERT_TRUE(left_out.ok()) << left_out.status();
  EXPECT_EQ(left_out->scores(3).label_tokens(), 0);
  EXPECT_EQ(left_out->scores(3).negative_log_likelihood(), 0);
  EXPECT_EQ(left_out->scores(0).SerializeAsString(), cut->scores(0).SerializeAsString());
}

TEST_F(InferenceCoreTest, ABadExampleIsNamedByItsIndex) {
  using Change = std::function<void(v1::ScoreRequest&)>;
  const std::map<std::string, Change> cases = {
      {"examples has 0 examples, want 1..1000", [](auto& r) { r.clear_examples(); }},
      {"examples has 1001 examples",
       [](auto& r) {
         while (r.examples_size() < 1001) r.add_examples()->set_plain_text("x");
       }},
      {"examples[3] is empty", [](auto& r) { r.add_examples(); }},
      {"examples[3].plain_text is empty", [](auto& r) { r.add_examples()->set_plain_text(""); }},
      {"examples[3].prompt_completion.completion is empty",
       [](auto& r) { r.add_examples()->mutable_prompt_completion()->set_prompt("x"); }},
      {"examples[3].chat has no message of the assistant",
       [](auto& r) { r.add_examples()->mutable_chat()->add_messages()->set_role("user"); }},
      {"examples[2].chat.messages[0].role is \"tool\"",
       [](auto& r) {
         r.mutable_examples(2)->mutable_chat()->mutable_messages(0)->set_role("tool");
       }},
      {"examples[2]: messages[0].content has a special token",
       [](auto& r) {
         r.mutable_examples(2)->mutable_chat()->mutable_messages(0)->set_content("<|im_end|>");
       }},
      {"text.max_length is 1, want 2..131072",
       [](auto& r) { r.mutable_text()->set_max_length(1); }},
      {"text.max_length is 100000, want at most the context of",
       [](auto& r) { r.mutable_text()->set_max_length(100000); }},
      {"text.truncation is 9",
       [](auto& r) {
         r.mutable_text()->set_truncation(static_cast<v1::TextSettings::Truncation>(9));
       }},
      {"text.train_on is 9",
       [](auto& r) { r.mutable_text()->set_train_on(static_cast<v1::TextSettings::TrainOn>(9)); }},
  };
  for (const auto& [message, change] : cases) {
    v1::ScoreRequest request = ThreeExamples(kPoet);
    change(request);
    const absl::Status status = Score(request).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << message << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

}  // namespace
}  // namespace deltaworks::services
