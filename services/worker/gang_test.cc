// Workers that train one job as a gang, each an engine on a thread of its own, met over loopback:
// the same adapter each time, whoever is told first to leave, and after a member died.

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/worker/testing/engine_harness.h"
#include "services/worker/testing/tiny_world.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

const AttemptKey kJ = KeyOf("j");

// Members of one gang, with a cache of the node's for all.
class Gang {
 public:
  explicit Gang(int size) {
    for (int i = 0; i < size; ++i) {
      workers_.push_back(std::make_unique<EngineHarness>());
      gang_.add_workers(absl::StrCat("workers/", i));
      gang_.add_addresses(workers_.back()->ListenForGangs());
    }
    gang_.set_token(std::string(32, 't'));
  }

  EngineHarness& worker(int rank) { return *workers_[static_cast<size_t>(rank)]; }

  // Every member on its own thread; `then` says what each does once it was started.
  void Run(const v1::TrainTask& task, const std::function<void(int rank, EngineHarness&)>& then) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < static_cast<int>(workers_.size()); ++rank) {
      threads.emplace_back([&, rank] {
        v1::TrainTask mine = task;
        *mine.mutable_gang() = gang_;
        mine.mutable_gang()->set_rank(rank);
        worker(rank).engine().Start(kJ, mine);
        then(rank, worker(rank));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::vector<std::unique_ptr<EngineHarness>> workers_;
  v1::Gang gang_;
};

void ToTheEnd(int, EngineHarness& worker) { worker.RunAll(); }

// The result of `size` workers that nothing disturbs.
TrainedResult Undisturbed(int size) {
  Gang gang(size);
  gang.Run(TinyTask(), ToTheEnd);
  CHECK(gang.worker(0).results.contains(kJ.job)) << gang.worker(0).failures[kJ.job].message();
  return gang.worker(0).results[kJ.job];
}

v1::TrainTask FromCheckpointOf(Gang& gang) {
  return StartingFrom(TinyTask(), *gang.worker(0).checkpoints.at(kJ.job));
}

TEST(GangTest, RankZeroHasTheResultAndTheOthersLeaveAfterTheLastStep) {
  Gang gang(3);
  gang.Run(TinyTask(), ToTheEnd);
  ASSERT_TRUE(gang.worker(0).results.contains(kJ.job)) << gang.worker(0).failures[kJ.job].message();
  EXPECT_EQ(gang.worker(0).results[kJ.job].step, kTinySteps);
  EXPECT_TRUE(gang.worker(0).left.empty());
  for (int rank = 1; rank < 3; ++rank) {
    SCOPED_TRACE(rank);
    EXPECT_FALSE(gang.worker(rank).results.contains(kJ.job));
    EXPECT_EQ(gang.worker(rank).left.size(), 1U);
    EXPECT_EQ(gang.worker(rank).steps[kJ.job], kTinySteps);
    EXPECT_TRUE(gang.worker(rank).checkpoints.empty());
    // They compute the same numbers, and so the same adapter.
    EXPECT_EQ(gang.worker(rank).metrics[kJ.job], gang.worker(0).metrics[kJ.job]);
  }
}

TEST(GangTest, ASizeGivesTheSameAdapterEachTimeAndAnotherSizeAnother) {
  const TrainedResult two = Undisturbed(2);
  EXPECT_EQ(Undisturbed(2).artifact->manifest_digest, two.artifact->manifest_digest);
  EXPECT_NE(Undisturbed(3).adapter_digest, two.adapter_digest);
}

TEST(GangTest, WhoeverIsToldToLeaveAllLeaveAfterTheSameStepAndGoOnWithTheSameBytes) {
  const TrainedResult want = Undisturbed(2);
  for (int told = 0; told < 2; ++told) {
    SCOPED_TRACE(told);
    Gang first(2);
    first.Run(TinyTask(), [&](int rank, EngineHarness& worker) {
      for (int i = 0; i < 5; ++i) worker.RunOnce();
      if (rank == told) worker.engine().Leave(kJ);
      worker.RunAll();
    });
    EXPECT_EQ(first.worker(0).left.size(), 1U);
    EXPECT_EQ(first.worker(1).left.size(), 1U);
    EXPECT_EQ(first.worker(0).steps[kJ.job], first.worker(1).steps[kJ.job]);
    EXPECT_LT(first.worker(0).steps[kJ.job], kTinySteps);
    ASSERT_TRUE(first.worker(0).checkpoints.contains(kJ.job));
    Gang second(2);
    second.Run(FromCheckpointOf(first), ToTheEnd);
    EXPECT_EQ(second.worker(0).results[kJ.job].adapter_digest, want.adapter_digest);
  }
}

TEST(GangTest, AMemberThatDiesBreaksItForTheOthersAndItGoesOnFromTheCheckpoint) {
  const TrainedResult want = Undisturbed(3);
  Gang gang(3);
  gang.Run(TinyTask(), [](int rank, EngineHarness& worker) {
    if (rank == 0) {
      for (int i = 0; i < 3; ++i) worker.RunOnce();
      worker.engine().TakeCheckpoint(kJ);  // At the next step's end.
      worker.RunAll();
      return;
    }
    for (int i = 0; i < 7; ++i) worker.RunOnce();
    if (rank == 2) {
      worker.engine().Stop(kJ);  // Its connections close, as those of a killed process do.
      return;
    }
    worker.RunAll();
  });
  for (int rank = 0; rank < 2; ++rank) {
    SCOPED_TRACE(rank);
    const v1::Failure& failure = gang.worker(rank).failures[kJ.job];
    EXPECT_EQ(failure.code(), kGangBroke);
    EXPECT_EQ(failure.fault(), v1::Failure::PLATFORM);
    EXPECT_THAT(failure.message(), HasSubstr("rank "));
  }
  ASSERT_TRUE(gang.worker(0).checkpoints.contains(kJ.job));
  Gang again(3);
  again.Run(FromCheckpointOf(gang), ToTheEnd);
  EXPECT_EQ(again.worker(0).results[kJ.job].adapter_digest, want.adapter_digest);
}

TEST(GangTest, WhoWaitsForTheOthersIsInterrupted) {
  Gang gang(2);
  gang.Run(TinyTask(), [](int rank, EngineHarness& worker) {
    if (rank == 1) {
      // In the middle of a step of rank 0's, which cannot end without it.
      for (int i = 0; i < 4; ++i) worker.RunOnce();
      std::this_thread::sleep_for(std::chrono::seconds(2));
      return;
    }
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      worker.engine().Interrupt(kJ);
    });
    worker.RunAll();
    other.join();
  });
  EXPECT_EQ(gang.worker(0).failures[kJ.job].code(), kGangBroke);
  EXPECT_THAT(gang.worker(0).failures[kJ.job].message(), HasSubstr("Abort() was called"));
}

TEST(GangTest, WhoNeverMeetsTheOthersIsInterruptedToo) {
  Gang gang(2);
  v1::TrainTask task = TinyTask();
  task.mutable_gang()->add_addresses(gang.worker(0).ListenForGangs());
  task.mutable_gang()->add_addresses("127.0.0.1:1");
  task.mutable_gang()->set_token(std::string(32, 't'));
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    gang.worker(0).engine().InterruptAll();
  });
  gang.worker(0).engine().Start(kJ, task);
  other.join();
  gang.worker(0).RunAll();
  EXPECT_EQ(gang.worker(0).failures[kJ.job].code(), kGangBroke);
  EXPECT_THAT(gang.worker(0).failures[kJ.job].message(), HasSubstr("the meeting is off"));
}

TEST(GangTest, AWorkerWithoutAnAddressSaysSo) {
  EngineHarness worker;
  v1::TrainTask task = TinyTask();
  task.mutable_gang()->add_addresses("127.0.0.1:1");
  worker.engine().Start(kJ, task);
  worker.RunAll();
  EXPECT_THAT(worker.failures[kJ.job].message(), HasSubstr("this worker has no --gang_address"));
}

}  // namespace
}  // namespace deltaworks::services
