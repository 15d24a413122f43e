// dw eval: what is asked of whom, and that the numbers are those of the metrics library.

#include <algorithm>
#include <atomic>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/eval_data.h"
#include "services/cli/eval_run.h"
#include "services/cli/exit_code.h"
#include "services/cli/parallel.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

TEST(EvalDataTest, TheLastAnswerOfAChatIsTheReferenceAndWhatComesBeforeIsAsked) {
  const auto examples = ReadEvalExamples(
      "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
      "\"content\": \"u1\"}, {\"role\": \"assistant\", \"content\": \"a1\"}, {\"role\": \"user\", "
      "\"content\": \"u2\"}, {\"role\": \"assistant\", \"content\": \"a2\"}]}\n",
      "f", 10);
  ASSERT_TRUE(examples.ok()) << examples.status();
  const EvalExample& example = (*examples)[0];
  EXPECT_EQ(example.reference, "a2");
  EXPECT_EQ(example.question_text, "u2");
  ASSERT_EQ(example.question.chat().messages_size(), 4);
  EXPECT_EQ(example.question.chat().messages(3).content(), "u2");
  EXPECT_EQ(example.score.chat().messages_size(), 5);
}

TEST(EvalDataTest, AChatThatBeginsWithItsAnswerAsksNothing) {
  const auto examples = ReadEvalExamples(
      "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n", "f", 10);
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_FALSE((*examples)[0].has_answer);
  EXPECT_EQ((*examples)[0].score.chat().messages_size(), 1);
}

TEST(EvalDataTest, PlainTextIsScoredOnly) {
  const auto examples = ReadEvalExamples("{\"text\": \"abc\"}\n\n{\"text\": \"d\"}\n", "f", 10);
  ASSERT_TRUE(examples.ok());
  ASSERT_EQ(examples->size(), 2);
  EXPECT_FALSE((*examples)[0].has_answer);
  EXPECT_EQ((*examples)[1].score.plain_text(), "d");
  EXPECT_EQ((*examples)[1].line, 3);
}

TEST(EvalDataTest, ABadLineIsNamedAndTheLimitCounts) {
  const std::string good = "{\"text\": \"abc\"}\n";
  EXPECT_THAT(ReadEvalExamples(good + "nonsense\n", "f", 10).status().message(),
              HasSubstr("f: line 2: "));
  EXPECT_EQ(ReadEvalExamples(good + good + good, "f", 2)->size(), 2);
  EXPECT_EQ(ReadEvalExamples(good + good + "nonsense\n", "f", 2)->size(), 2);
  EXPECT_EQ(ReadEvalExamples("", "f", 2).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ParallelTest, EveryItemIsDoneOnceOnNoMoreThreadsThanAllowed) {
  std::atomic<int> running = 0, most = 0;
  Mutex mutex;
  std::multiset<int64_t> done;
  ASSERT_TRUE(RunParallel(500, 4, [&](int64_t item) {
                most = std::max<int>(most, ++running);
                MutexLock lock(&mutex);
                done.insert(item);
                --running;
                return absl::OkStatus();
              }).ok());
  EXPECT_EQ(done.size(), 500);
  EXPECT_EQ(std::set<int64_t>(done.begin(), done.end()).size(), 500);
  EXPECT_LE(most, 4);
}

TEST(ParallelTest, TheFirstErrorEndsTheWork) {
  std::atomic<int> calls = 0;
  const absl::Status status = RunParallel(1000, 2, [&](int64_t item) -> absl::Status {
    ++calls;
    if (item >= 10) return absl::InternalError(absl::StrCat("item ", item));
    return absl::OkStatus();
  });
  EXPECT_EQ(status.message(), "item 10");
  EXPECT_LE(calls, 13);
}

class EvalTest : public ::testing::Test {
 protected:
  EvalTest() : world_("eval") { world_.Fill(); }
  Json Eval(std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"eval",          "--model",  "smollm2",
                                      "--adapter",     "notes/1",  "--dataset",
                                      "{}/data.jsonl", "--output", "json"};
    words.insert(words.end(), more.begin(), more.end());
    const CliWorld::Result result = world_.Run(words);
    EXPECT_EQ(result.code, kExitOk) << result.err;
    const auto json = ParseJson(result.out, "out");
    EXPECT_TRUE(json.ok()) << result.out;
    return json.ok() ? *json : Json();
  }
  CliWorld world_;
};

TEST_F(EvalTest, BaseAndAdapterAreComparedOnTheSameExamples) {
  const Json json = Eval();
  // Scores are (16, 17) and (8, 9) nats on 4 tokens each.
  EXPECT_DOUBLE_EQ(json["loss"]["base"], 33.0 / 8);
  EXPECT_DOUBLE_EQ(json["loss"]["adapter"], 17.0 / 8);
  EXPECT_DOUBLE_EQ(json["loss"]["gain"]["mean"], -2);
  EXPECT_DOUBLE_EQ(json["loss"]["gain"]["low"], -2) << "every example gains the same";
  EXPECT_DOUBLE_EQ(json["loss"]["gain"]["high"], -2);
  EXPECT_DOUBLE_EQ(json["loss_by_token"]["base"], 33.0 / 8);
  // "short one" against "short one" and "short two"; "a very long answer" shares no word.
  EXPECT_DOUBLE_EQ(json["rouge1"]["base"], 0);
  EXPECT_DOUBLE_EQ(json["rouge1"]["adapter"], 0.75);
  EXPECT_DOUBLE_EQ(json["rouge2"]["adapter"], 0.5);
  EXPECT_DOUBLE_EQ(json["rouge1"]["gain"]["mean"], 0.75);
  EXPECT_EQ(json["version"], "tenants/default/adapters/notes/versions/1");
  EXPECT_EQ(json["examples"][1]["reference"], "short two");
  EXPECT_EQ(json["examples"][1]["adapter_answer"], "short one");
}

TEST_F(EvalTest, TheAdapterRunsOnTheBaseItIsComparedWith) {
  Mutex mutex;
  std::vector<v1::ModelSelector> seen;
  const auto score = world_.inference.on_score;
  world_.inference.on_score = [&](const v1::ScoreRequest& request) {
    MutexLock lock(&mutex);
    seen.push_back(request.model());
    EXPECT_EQ(request.text().max_length(), 64);
    return score(request);
  };
  Eval({"--max_length", "64", "--loss_only"});
  ASSERT_EQ(seen.size(), 2);
  EXPECT_EQ(seen[0].model(), "tenants/default/baseModels/smollm2");
  EXPECT_EQ(seen[1].model(), "tenants/default/adapters/notes/versions/1");
  EXPECT_EQ(seen[1].base_model(), "tenants/default/baseModels/smollm2");
}

TEST_F(EvalTest, AnAliasIsLookedUpOnceAndMayMoveWhileItIsUsed) {
  Mutex mutex;
  std::set<std::string> seen;
  const auto score = world_.inference.on_score;
  world_.inference.on_score = [&](const v1::ScoreRequest& request) {
    MutexLock lock(&mutex);
    seen.insert(request.model().model());
    return score(request);
  };
  const CliWorld::Result result =
      world_.Run({"eval", "--model", "smollm2", "--adapter", "notes@champion", "--dataset",
                  "{}/data.jsonl", "--loss_only"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(seen, ::testing::ElementsAre("tenants/default/adapters/notes/versions/1",
                                           "tenants/default/baseModels/smollm2"));
  EXPECT_THAT(result.out, HasSubstr("adapter notes/1"));
}

TEST_F(EvalTest, AMergedAdapterIsAskedForAsSuch) {
  Mutex mutex;
  std::vector<v1::ModelSelector> seen;
  const auto score = world_.inference.on_score;
  world_.inference.on_score = [&](const v1::ScoreRequest& request) {
    MutexLock lock(&mutex);
    seen.push_back(request.model());
    return score(request);
  };
  Eval({"--merged", "--loss_only"});
  ASSERT_EQ(seen.size(), 2);
  EXPECT_NE(seen[0].mode(), v1::ModelSelector::MERGED) << "the base has nothing to merge";
  EXPECT_EQ(seen[1].mode(), v1::ModelSelector::MERGED);
}

TEST_F(EvalTest, LossOnlyAsksForNoAnswer) {
  world_.inference.on_generate = nullptr;
  const Json json = Eval({"--loss_only"});
  EXPECT_FALSE(JsonHas(json, "rouge1"));
}

TEST_F(EvalTest, ABusyServiceIsAskedAgainAndTheCutAnswerForgotten) {
  std::atomic<int> calls = 0;
  const auto generate = world_.inference.on_generate;
  world_.inference.on_generate = [&](const v1::GenerateRequest& request,
                                     const InferenceClient::Sink& sink) -> absl::Status {
    if (++calls > 2) return generate(request, sink);
    v1::GenerateResponse cut;
    cut.set_text("half of ");
    static_cast<void>(sink(cut));
    return absl::ResourceExhaustedError("too many requests wait");
  };
  const Json json = Eval({"--concurrency", "1"});
  EXPECT_EQ(json["examples"][0]["base_answer"], "a very long answer");
}

TEST_F(EvalTest, AServiceThatStaysBusyEndsTheCommand) {
  world_.inference.on_score = [](const v1::ScoreRequest&) -> absl::StatusOr<v1::ScoreResponse> {
    return absl::UnavailableError("inference is starting");
  };
  const absl::Duration begin = world_.clock.Monotonic();
  const CliWorld::Result result = world_.Run(
      {"eval", "--model", "smollm2", "--adapter", "notes", "--dataset", "{}/data.jsonl"});
  EXPECT_EQ(result.code, kExitUnavailable);
  EXPECT_GT(world_.clock.Monotonic() - begin, absl::Seconds(20));
  EXPECT_LE(world_.clock.Monotonic() - begin, RetryPolicy().total_max);
  EXPECT_THAT(result.err, HasSubstr("inference is starting"));
}

TEST_F(EvalTest, AnAdapterOfAnotherBaseIsRefused) {
  world_.inference.on_score = [](const v1::ScoreRequest&) -> absl::StatusOr<v1::ScoreResponse> {
    return absl::FailedPreconditionError("bound to sha256:aa, got sha256:bb");
  };
  EXPECT_EQ(
      world_.Run({"eval", "--model", "smollm2", "--adapter", "notes", "--dataset", "{}/data.jsonl"})
          .code,
      kExitRefused);
}

TEST_F(EvalTest, ADatasetOfTheStoreIsReadFromThere) {
  const CliWorld::Result result =
      world_.Run({"eval", "--model", "smollm2", "--adapter", "notes", "--dataset", "notes"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("2 examples, 8 label tokens, adapter notes/1"));
}

}  // namespace
}  // namespace deltaworks::services
