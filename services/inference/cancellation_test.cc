// A caller that goes away ends its work within one token, or one pass of scoring; one that reads
// slowly holds up nobody.

#include <prometheus/counter.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "services/inference/testing/hook_clock.h"
#include "services/inference/testing/inference_world.h"

namespace deltaworks::services {
namespace {

InferenceCore::Options OneExampleAtATime() {
  InferenceCore::Options options = SmallOptions();
  options.engine.score_rows_max = 1;
  return options;
}

class CancellationTest : public ::testing::Test {
 protected:
  // The engine, once `counter` (tokens of this request) has moved, goes on when the gate opens.
  void HoldAfter(const prometheus::Counter& counter) {
    clock_.hook = [this, &counter] {
      if (counter.Value() >= 1) gate_.Await();
    };
  }
  // A caller that is gone once `counter` has moved; the gate opens when the core, after it was told
  // so, asks again.
  CallControl GoneAfter(const prometheus::Counter& counter) {
    CallControl control;
    control.cancelled = [this, &counter] {
      if (counter.Value() < 1) return false;
      if (++asked_ == 2) gate_.Open();
      return true;
    };
    return control;
  }

  HookClock clock_;
  Gate gate_;
  InferenceWorld world_{OneExampleAtATime(), MakeCpuBackend, clock_};
  prometheus::Counter& generated_ = world_.metrics().generated_tokens;
  prometheus::Counter& scored_ = world_.metrics().scored_tokens;
  std::atomic<int> asked_ = 0;
};

TEST_F(CancellationTest, AStreamEndsWithinOneToken) {
  HoldAfter(generated_);
  const absl::Status status =
      world_.core().Generate(kAcme, InferenceWorld::Request(kPoet), GoneAfter(generated_),
                             [](const v1::GenerateResponse&) { return true; });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(generated_.Value(), 1);
}

TEST_F(CancellationTest, OneThatTakesNoMessageIsNotWorkedForAnyMore) {
  HoldAfter(generated_);
  const absl::Status status = world_.core().Generate(
      kAcme, InferenceWorld::Request(kPoet), {}, [](const v1::GenerateResponse&) { return false; });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  gate_.Open();
  world_.core().Drain(absl::Minutes(1));
  EXPECT_EQ(generated_.Value(), 1);
}

TEST_F(CancellationTest, AScoreEndsWithinOnePassWhoseRowsHaveABound) {
  v1::ScoreRequest request = InferenceWorld::ScoreRequest(kPoet);
  request.add_examples()->set_plain_text("the cat");
  const auto first = world_.core().Score(kAcme, request, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const double tokens = scored_.Value();
  EXPECT_EQ(tokens, first->scores(0).token_count());
  for (int i = 0; i < 5; ++i) *request.add_examples() = request.examples(0);

  InferenceWorld world(OneExampleAtATime(), MakeCpuBackend, clock_);
  prometheus::Counter& scored = world.metrics().scored_tokens;
  HoldAfter(scored);
  const absl::Status status = world.core().Score(kAcme, request, GoneAfter(scored)).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(scored.Value(), tokens);
}

TEST_F(CancellationTest, WhatASlowReaderHasNotTakenIsJoinedIntoOneMessage) {
  HoldAfter(generated_);
  std::vector<v1::GenerateResponse> messages;
  const auto slow = [&](const v1::GenerateResponse& message) {
    messages.push_back(message);
    gate_.Open();
    // The engine ends the whole answer meanwhile.
    while (world_.core().engine().jobs() > 0) std::this_thread::yield();
    return true;
  };
  const absl::Status status =
      world_.core().Generate(kAcme, InferenceWorld::Request(kPoet), {}, slow);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].token_ids_size(), 1);
  EXPECT_EQ(1 + messages[1].token_ids_size(), messages[1].generated_tokens());
  EXPECT_EQ(messages[0].text() + messages[1].text(),
            InferenceWorld().Generate(InferenceWorld::Request(kPoet)).text);
}

}  // namespace
}  // namespace deltaworks::services
