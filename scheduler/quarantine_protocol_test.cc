// Workers on which attempts die one after the other get no job for a while.

#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

class QuarantineTest : public ProtocolTest {
 protected:
  QuarantineTest()
      : ProtocolTest([] {
          Options options;
          options.deaths_until_poison = 0;
          return options;
        }()) {
    CHECK(h.Sync(&worker).ok());
  }

  // A job begins on the worker, and the worker dies. The job is cancelled, to be out of the way.
  void Die(const std::string& id) {
    const std::string job = h.Submit(id);
    CHECK_EQ(h.StateOfJob(job), v1::RUNNING);
    h.Advance(absl::Seconds(1));
    ++worker.incarnation;
    worker.report_number = 0;
    worker.draining = true;  // So that it does not come back at once.
    CHECK(h.Sync(&worker).ok());
    CHECK(h.Cancel(job).ok());
    worker.draining = false;
    CHECK(h.Sync(&worker).ok());
  }

  v1::WorkerMode Mode() { return h.scheduler->state()->WorkerMode(worker.name); }

  // The worker reports all along.
  void Wait(absl::Duration duration) {
    for (const absl::Time until = h.now + duration; h.now < until;) {
      h.Advance(std::min(until - h.now, absl::Seconds(10)));
      CHECK(h.Sync(&worker).ok());
    }
  }
};

TEST_F(QuarantineTest, ThreeIncidentsInARowKeepJobsAwayForAWhile) {
  Die("a");
  Die("b");
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
  Die("c");
  EXPECT_EQ(Mode(), v1::WORKER_QUARANTINED);
  const std::string d = h.Submit("d");
  EXPECT_EQ(h.StateOfJob(d), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(d).reason(), v1::NO_WORKER_ONLINE);
  h.Commit();
  h.Restart();  // It is remembered.
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_EQ(Mode(), v1::WORKER_QUARANTINED);
  Wait(h.options.quarantine_first - absl::Seconds(1));
  EXPECT_EQ(h.StateOfJob(d), v1::QUEUED);
  Wait(absl::Seconds(1));
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
  EXPECT_EQ(h.StateOfJob(d), v1::RUNNING);
}

TEST_F(QuarantineTest, OneMoreIncidentBringsItBackForTwiceAsLong) {
  for (const char* id : {"a", "b", "c"}) Die(id);
  Wait(h.options.quarantine_first);
  ASSERT_EQ(Mode(), v1::WORKER_ACTIVE);
  Die("d");
  EXPECT_EQ(Mode(), v1::WORKER_QUARANTINED);
  Wait(2 * h.options.quarantine_first - absl::Seconds(1));
  EXPECT_EQ(Mode(), v1::WORKER_QUARANTINED);
  Wait(absl::Seconds(2));
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
}

TEST_F(QuarantineTest, ACheckpointClearsTheRecord) {
  Die("a");
  Die("b");
  Run("c");
  ASSERT_TRUE(SayCheckpoint(5).ok());
  ASSERT_TRUE(h.Cancel(JobName("c")).ok());
  ASSERT_TRUE(Say(kLeft).ok());
  Die("d");
  Die("e");
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
  Die("f");
  EXPECT_EQ(Mode(), v1::WORKER_QUARANTINED);
}

TEST_F(QuarantineTest, AJobThatDiesWhereverItRunsIsNotTheWorkersFault) {
  const std::string a = h.Submit("a");
  for (int i = 0; i < 5; ++i) {
    h.Advance(absl::Seconds(1));
    RestartWorker();
    ASSERT_EQ(h.StateOfJob(a), v1::RUNNING);
  }
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
}

TEST_F(QuarantineTest, ACohortThatDiesWithItsWorkerIsOneIncident) {
  for (const char* id : {"a", "b", "c", "d"}) {
    h.Submit(MakeCreateRequest(id), MakeSharingFacts(64));
  }
  ASSERT_TRUE(h.Sync(&worker).ok());
  ASSERT_EQ(worker.answer.assignments_size(), 4);
  h.Advance(absl::Seconds(1));
  RestartWorker();
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
  EXPECT_EQ(h.scheduler->state()->troubles().all().at(worker.name).incidents(), 1);
}

TEST_F(QuarantineTest, AnOperatorEndsItAndMayNotSetIt) {
  for (const char* id : {"a", "b", "c"}) Die(id);
  v1::SetWorkerModeRequest request;
  request.set_worker(worker.name);
  request.set_mode(v1::WORKER_QUARANTINED);
  EXPECT_TRUE(absl::IsInvalidArgument(h.Execute(request).status()));
  request.set_mode(v1::WORKER_ACTIVE);
  ASSERT_TRUE(h.Execute(request).ok());
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
  // With a clean record.
  Die("d");
  Die("e");
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
}

TEST_F(QuarantineTest, ZeroIncidentsMeanNever) {
  h.options.incidents_until_quarantine = 0;
  h.Commit();
  h.Restart();
  ASSERT_TRUE(h.Sync(&worker).ok());
  for (const char* id : {"a", "b", "c", "d", "e"}) Die(id);
  EXPECT_EQ(Mode(), v1::WORKER_ACTIVE);
}

}  // namespace
}  // namespace deltaworks::scheduler
