// What reports may say of a worker, in whatever order they arrive.

#include "scheduler/fleet.h"

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::scheduler {
namespace {

constexpr absl::Duration kLease = absl::Seconds(20);
const absl::Time kStart = absl::FromUnixSeconds(1'000);

v1::SyncRequest Report(int64_t incarnation, int64_t number) {
  v1::SyncRequest report;
  report.set_worker("workers/w");
  report.set_incarnation(incarnation);
  report.set_report_number(number);
  report.mutable_environment()->set_numerics_class("c");
  return report;
}

TEST(FleetTest, ASmallerReportNumberIsIgnoredAndTheSameIsARepetition) {
  Fleet fleet(kLease, kStart);
  EXPECT_TRUE(fleet.Accept(Report(1, 5), 0, kStart).ok());
  EXPECT_TRUE(absl::IsAborted(fleet.Accept(Report(1, 4), 0, kStart)));
  EXPECT_TRUE(fleet.Accept(Report(1, 5), 0, kStart).ok());
  EXPECT_TRUE(fleet.Accept(Report(1, 6), 0, kStart).ok());
}

TEST(FleetTest, ANewIncarnationCountsFromItsOwnFirstReport) {
  Fleet fleet(kLease, kStart);
  EXPECT_TRUE(fleet.Accept(Report(1, 5), 0, kStart).ok());
  EXPECT_TRUE(fleet.Accept(Report(2, 1), 0, kStart).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(fleet.Accept(Report(1, 6), 0, kStart)));
}

TEST(FleetTest, AnIncarnationBelowTheStoredOneIsRefusedAlsoByANewScheduler) {
  Fleet fleet(kLease, kStart);
  EXPECT_TRUE(absl::IsFailedPrecondition(fleet.Accept(Report(1, 1), 2, kStart)));
  EXPECT_TRUE(fleet.workers().empty());
}

TEST(FleetTest, AWorkerIsOnlineForOneLeaseAfterItsReportAndForgottenAfterADay) {
  Fleet fleet(kLease, kStart);
  ASSERT_TRUE(fleet.Accept(Report(1, 1), 0, kStart).ok());
  fleet.Advance(kStart + kLease - absl::Milliseconds(1));
  EXPECT_TRUE(fleet.workers().at("workers/w").online);
  fleet.Advance(kStart + kLease);
  EXPECT_FALSE(fleet.workers().at("workers/w").online);
  fleet.Advance(kStart + absl::Hours(24) + absl::Seconds(1));
  EXPECT_TRUE(fleet.workers().empty());
}

TEST(FleetTest, TheRevisionGrowsWithEveryChangeOfTheAnswerAndOnlyThen) {
  Fleet fleet(kLease, kStart);
  const int64_t first = fleet.Revise("workers/w", "a");
  EXPECT_EQ(fleet.Revise("workers/w", "a"), first);
  const int64_t second = fleet.Revise("workers/w", "b");
  EXPECT_GT(second, first);
  EXPECT_GT(fleet.Revise("workers/w", "a"), second);
}

TEST(FleetTest, AForgottenWorkerGetsNoRevisionAgain) {
  Fleet fleet(kLease, kStart);
  ASSERT_TRUE(fleet.Accept(Report(1, 1), 0, kStart).ok());
  const int64_t before = fleet.Revise("workers/w", "a");
  fleet.Advance(kStart + absl::Hours(25));
  EXPECT_GT(fleet.Revise("workers/w", "a"), before);
}

TEST(FleetTest, AClassThatNeverReportedCountsAsSeenWhenTheSchedulerStarted) {
  Fleet fleet(kLease, kStart);
  EXPECT_EQ(fleet.ClassLastSeen("c"), kStart);
  ASSERT_TRUE(fleet.Accept(Report(1, 1), 0, kStart + absl::Seconds(9)).ok());
  EXPECT_EQ(fleet.ClassLastSeen("c"), kStart + absl::Seconds(9));
}

}  // namespace
}  // namespace deltaworks::scheduler
