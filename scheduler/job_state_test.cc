// Every pair of states, as a table: what is not written here must not happen.

#include "scheduler/job_state.h"

#include <set>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::scheduler {
namespace {

using Pair = std::pair<v1::JobState, v1::JobState>;

const std::set<Pair>& LegalMoves() {
  static const auto* const kMoves = new std::set<Pair>{
      {v1::VALIDATING, v1::QUEUED},    {v1::VALIDATING, v1::CANCELLED},
      {v1::VALIDATING, v1::FAILED},    {v1::QUEUED, v1::RUNNING},
      {v1::QUEUED, v1::PAUSED},        {v1::QUEUED, v1::CANCELLED},
      {v1::QUEUED, v1::FAILED},        {v1::RUNNING, v1::QUEUED},
      {v1::RUNNING, v1::PAUSING},      {v1::RUNNING, v1::CANCELLING},
      {v1::RUNNING, v1::FINALIZING},   {v1::RUNNING, v1::FAILED},
      {v1::PAUSING, v1::PAUSED},       {v1::PAUSING, v1::FINALIZING},
      {v1::PAUSING, v1::CANCELLING},   {v1::PAUSING, v1::FAILED},
      {v1::PAUSED, v1::QUEUED},        {v1::PAUSED, v1::CANCELLED},
      {v1::CANCELLING, v1::CANCELLED}, {v1::FINALIZING, v1::SUCCEEDED},
      {v1::FINALIZING, v1::FAILED},
  };
  return *kMoves;
}

TEST(JobStateTest, EveryPairIsLegalExactlyIfTheTableHasIt) {
  for (int from = v1::JobState_MIN; from <= v1::JobState_MAX; ++from) {
    for (int to = v1::JobState_MIN; to <= v1::JobState_MAX; ++to) {
      const Pair pair(static_cast<v1::JobState>(from), static_cast<v1::JobState>(to));
      EXPECT_EQ(JobStateMachine::IsLegal(pair.first, pair.second), LegalMoves().contains(pair))
          << v1::JobState_Name(pair.first) << " -> " << v1::JobState_Name(pair.second);
    }
  }
}

TEST(JobStateTest, NothingLeavesAFinalState) {
  for (const auto& [from, to] : LegalMoves()) EXPECT_FALSE(IsFinal(from)) << v1::JobState_Name(to);
}

TEST(JobStateTest, AnIllegalMoveChangesNothingAndNamesBothStates) {
  v1::Job job;
  job.set_name("tenants/t/jobs/a");
  job.mutable_status()->set_state(v1::SUCCEEDED);
  const std::string before = job.SerializeAsString();

  const absl::Status moved = JobStateMachine::Move(v1::QUEUED, v1::PREEMPTED, "", &job);

  EXPECT_EQ(moved, absl::InternalError("tenants/t/jobs/a cannot move from SUCCEEDED to QUEUED"));
  EXPECT_EQ(job.SerializeAsString(), before);
}

TEST(JobStateTest, OnlyAFinalStateSetsTheEndTime) {
  v1::Job job;
  job.mutable_update_time()->set_seconds(7);
  job.mutable_status()->set_state(v1::VALIDATING);
  ASSERT_TRUE(JobStateMachine::Move(v1::QUEUED, v1::VALIDATED, "", &job).ok());
  EXPECT_FALSE(job.has_end_time());
  ASSERT_TRUE(JobStateMachine::Move(v1::FAILED, v1::FAILURE, "why", &job).ok());
  EXPECT_EQ(job.end_time().seconds(), 7);
  EXPECT_EQ(job.status().reason(), v1::FAILURE);
  EXPECT_EQ(job.status().message(), "why");
}

}  // namespace
}  // namespace deltaworks::scheduler
