// The engine's bounds: a full queue, a caller that cancels, a deadline, a stop; and that a stream
// which waits for room gets it. The engine is held where a test wants it by the two things that it
// asks of the world: the backend it is given, and the clock it reads at every token.

#include "services/inference/engine.h"

#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/inference/testing/hook_clock.h"
#include "services/inference/testing/inference_world.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Minutes(1);

class EngineTest : public ::testing::Test {
 protected:
  // An engine whose first job waits until Release().
  void Start(const Engine::Options& options) {
    engine_ = std::make_unique<Engine>(
        options,
        [this](trainer::DType type) {
          reached_.Open();
          released_.Await();
          return MakeCpuBackend(type);
        },
        world_.metrics(), clock_);
  }
  void Release() { released_.Open(); }
  // Until the engine has taken the first job.
  void AwaitHeld() { reached_.Await(); }

  std::shared_ptr<GenerationJob> Job(int64_t max_new_tokens,
                                     absl::Duration deadline = absl::InfiniteDuration(),
                                     int prompt = 3) {
    GenerationTask task{.max_new_tokens = max_new_tokens};
    for (int i = 0; i < prompt; ++i) task.prompt.push_back(70 + i);
    return std::make_shared<GenerationJob>(model_, std::move(task), deadline);
  }
  std::shared_ptr<ScoreJob> Scoring(int64_t tokens) {
    trainer::Example example{.ids = std::vector<int32_t>(tokens, 70),
                             .is_label = std::vector<bool>(tokens, true)};
    return std::make_shared<ScoreJob>(model_, std::vector<trainer::Example>{example},
                                      absl::InfiniteDuration());
  }
  static absl::Status Await(GenerationJob& job, std::vector<int32_t>* tokens = nullptr) {
    while (true) {
      const GenerationJob::Progress progress = job.Wait(kLong);
      if (tokens != nullptr) {
        tokens->insert(tokens->end(), progress.token_ids.begin(), progress.token_ids.end());
      }
      if (progress.ended) return progress.status;
    }
  }
  static absl::Status Await(ScoreJob& job) {
    while (!job.Wait(kLong)) {
    }
    return job.status();
  }

  InferenceWorld world_;
  HookClock clock_;
  // A model that was loaded, by a request of the world's own core.
  ModelHandle model_ = [this] {
    ModelHandle model;
    model.base_name = kTiny;
    model.base = *LoadedBase::Open(world_.BaseFolder(kTiny));
    return model;
  }();
  Gate reached_, released_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, JobsBeyondPlacesAndQueueAreRefused) {
  Start({.streams_max = 1, .queue_max = 2});
  const auto first = Job(2), second = Job(2);
  const auto scoring = Scoring(5);
  ASSERT_TRUE(engine_->Submit(first).ok());
  ASSERT_TRUE(engine_->Submit(second).ok());
  ASSERT_TRUE(engine_->Submit(scoring).ok());
  for (const absl::Status& status : {engine_->Submit(Job(2)), engine_->Submit(Scoring(5))}) {
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_EQ(status.message(),
              "3 requests are answered or wait, want at most streams_max + queue_max = 3: repeat "
              "later");
  }
  Release();
  EXPECT_TRUE(Await(*first).ok());
  EXPECT_TRUE(Await(*second).ok());
  EXPECT_TRUE(Await(*scoring).ok());
  EXPECT_TRUE(engine_->Submit(Job(2)).ok());
}

TEST_F(EngineTest, ACancelledStreamGetsNoOtherToken) {
  const auto job = Job(100);
  clock_.hook = [&] {
    if (job->generated == 3) job->Cancel();
  };
  Start({});
  Release();
  ASSERT_TRUE(engine_->Submit(job).ok());
  EXPECT_TRUE(absl::IsCancelled(Await(*job)));
  EXPECT_EQ(job->generated, 3);
  engine_.reset();
}

TEST_F(EngineTest, ACancelledJobLeavesTheQueue) {
  Start({.streams_max = 1});
  const auto first = Job(2), second = Job(2);
  ASSERT_TRUE(engine_->Submit(first).ok());
  AwaitHeld();
  ASSERT_TRUE(engine_->Submit(second).ok());
  second->Cancel();
  Release();
  EXPECT_TRUE(absl::IsCancelled(Await(*second)));
  EXPECT_EQ(second->generated, 0);
  EXPECT_TRUE(Await(*first).ok());
}

TEST_F(EngineTest, AJobThatWaitsBeyondItsDeadlineIsNotBegun) {
  Start({.streams_max = 1});
  const auto first = Job(2);
  ASSERT_TRUE(engine_->Submit(first).ok());
  AwaitHeld();
  const auto late = Job(2, clock_.Monotonic() - absl::Seconds(1));
  ASSERT_TRUE(engine_->Submit(late).ok());
  Release();
  EXPECT_TRUE(absl::IsDeadlineExceeded(Await(*late)));
  EXPECT_TRUE(Await(*first).ok());
}

TEST_F(EngineTest, AStreamWaitsForRoomInTheCacheAndAnswersAsAlone) {
  // One page: room for one of them at a time.
  Start({.streams_max = 4, .kv_tokens_max = 40});
  Release();
  const auto first = Job(30), second = Job(30), third = Job(30);
  for (const auto& job : {first, second, third}) ASSERT_TRUE(engine_->Submit(job).ok());
  std::vector<int32_t> tokens[3];
  EXPECT_TRUE(Await(*first, &tokens[0]).ok());
  EXPECT_TRUE(Await(*second, &tokens[1]).ok());
  EXPECT_TRUE(Await(*third, &tokens[2]).ok());
  EXPECT_FALSE(tokens[0].empty());
  EXPECT_EQ(tokens[0], tokens[1]);
  EXPECT_EQ(tokens[0], tokens[2]);
}

TEST_F(EngineTest, OneThatWaitsForRoomIsNotStarvedByShorterOnesThatFit) {
  // Two pages: the first takes one, the one that waits needs both.
  Start({.streams_max = 4, .kv_tokens_max = 2 * trainer::kKeyPage});
  const auto first = Job(17), waiting = Job(trainer::kKeyPage), small = Job(7);
  for (const auto& job : {first, waiting, small}) ASSERT_TRUE(engine_->Submit(job).ok());
  Release();
  for (const auto& job : {first, waiting, small}) EXPECT_TRUE(Await(*job).ok());
  // One page was free, so the small one had room from the beginning.
  EXPECT_GE(waiting->times.admitted, first->times.last_token);
  EXPECT_GE(small->times.admitted, waiting->times.admitted);
}

TEST_F(EngineTest, APromptIsReadInPiecesBetweenTheTokensOfOthers) {
  const auto talking = Job(40), reading = Job(2, absl::InfiniteDuration(), /*prompt=*/32);
  int64_t tokens_while_reading = 0;
  clock_.hook = [&] {
    if (reading->generated == 0) tokens_while_reading = talking->generated;
  };
  Start({.prompt_rows_max = 4});
  ASSERT_TRUE(engine_->Submit(talking).ok());
  ASSERT_TRUE(engine_->Submit(reading).ok());
  Release();
  EXPECT_TRUE(Await(*talking).ok());
  EXPECT_TRUE(Await(*reading).ok());
  engine_.reset();
  // 8 pieces, the first together with the other's prompt, and a token after each.
  EXPECT_GE(tokens_while_reading, 7);
}

TEST_F(EngineTest, TheGaugesSayWhoWaitsAndWhoIsAnswered) {
  const auto first = Job(8), second = Job(2);
  double active = -1, waiting = -1;
  clock_.hook = [&] {
    if (first->generated != 2) return;
    active = world_.Metric("deltaworks_inference_streams_active");
    waiting = world_.Metric("deltaworks_inference_queue_length");
  };
  Start({.streams_max = 1});
  for (const auto& job : {first, second}) ASSERT_TRUE(engine_->Submit(job).ok());
  Release();
  EXPECT_TRUE(Await(*first).ok());
  EXPECT_TRUE(Await(*second).ok());
  engine_.reset();
  EXPECT_EQ(active, 1);
  EXPECT_EQ(waiting, 1);
  EXPECT_EQ(world_.Metric("deltaworks_inference_streams_active"), 0);
  EXPECT_EQ(world_.Metric("deltaworks_inference_queue_length"), 0);
}

TEST_F(EngineTest, ADrainLetsJobsEndAndRefusesNewOnes) {
  Start({});
  Release();
  const auto job = Job(20);
  ASSERT_TRUE(engine_->Submit(job).ok());
  engine_->Drain(kLong);
  EXPECT_EQ(engine_->jobs(), 0);
  EXPECT_TRUE(Await(*job).ok());
  EXPECT_TRUE(absl::IsUnavailable(engine_->Submit(Job(2))));
}

TEST_F(EngineTest, ADrainCutsOffWhatHasNotEndedInTime) {
  // Drain() looks at the clock twice, the second time with the lock that it keeps until everything
  // is to be cut off.
  Gate looked_twice;
  std::thread::id drainer_id;
  int looks = 0;
  clock_.hook = [&] {
    if (std::this_thread::get_id() == drainer_id && ++looks == 2) looked_twice.Open();
  };
  Gate may_drain;
  std::thread drainer([&] {
    may_drain.Await();
    engine_->Drain(-kLong);
  });
  drainer_id = drainer.get_id();
  Start({.streams_max = 1});
  const auto first = Job(20), second = Job(20);
  ASSERT_TRUE(engine_->Submit(first).ok());
  ASSERT_TRUE(engine_->Submit(second).ok());
  AwaitHeld();
  may_drain.Open();
  looked_twice.Await();
  EXPECT_EQ(engine_->jobs(), 2);  // Waits for the lock.
  Release();
  EXPECT_TRUE(absl::IsUnavailable(Await(*first)));
  EXPECT_TRUE(absl::IsUnavailable(Await(*second)));
  EXPECT_LE(first->generated, 1);
  drainer.join();
  engine_.reset();
}

TEST_F(EngineTest, ABackendThatCannotBeMadeEndsTheJobWithItsError) {
  Engine engine(
      {}, [](trainer::DType) { return absl::ResourceExhaustedError("no device"); },
      world_.metrics(), clock_);
  const auto job = Job(2);
  ASSERT_TRUE(engine.Submit(job).ok());
  EXPECT_EQ(Await(*job), absl::ResourceExhaustedError("no device"));
  const auto scoring = Scoring(4);
  ASSERT_TRUE(engine.Submit(scoring).ok());
  EXPECT_EQ(Await(*scoring), absl::ResourceExhaustedError("no device"));
}

}  // namespace
}  // namespace deltaworks::services
