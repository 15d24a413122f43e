// A lease is safe if two workers can never both be allowed to write. These tests walk one job
// through the ways in which that could go wrong.

#include "scheduler/lease_table.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;

constexpr absl::Duration kLease = absl::Seconds(20);
constexpr absl::Duration kTick = absl::Milliseconds(1);
constexpr char kWorker[] = "workers/w";
const absl::Time kStart = absl::FromUnixSeconds(1'000);

Lease First() { return {.job = "job-a", .lease_epoch = 1, .attempt_id = "x", .worker = kWorker}; }

TEST(LeaseTableTest, RenewalExtendsTheDeadlineFromTheReportNotFromTheOldDeadline) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  const absl::Time received = kStart + absl::Seconds(10);
  ASSERT_TRUE(leases.Renew(kWorker, "job-a", 1, "x", received));
  EXPECT_EQ(leases.Find(kWorker, "job-a", 1, "x")->expires_at, received + kLease);
}

TEST(LeaseTableTest, ALateRenewalNeverShortensALease) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  ASSERT_TRUE(leases.Renew(kWorker, "job-a", 1, "x", kStart - absl::Seconds(5)));
  EXPECT_EQ(leases.NextDeadline(), kStart + kLease);
}

TEST(LeaseTableTest,
     AnExpiredLeaseIsListedFromTheDeadlineOnAndMayStillRenewUntilItsEndIsCommitted) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  const absl::Time deadline = kStart + kLease;
  EXPECT_THAT(leases.Expired(deadline - kTick), IsEmpty());
  EXPECT_THAT(leases.Expired(deadline), ElementsAre(Field(&Lease::job, "job-a")));
  EXPECT_TRUE(leases.Renew(kWorker, "job-a", 1, "x", deadline));
  EXPECT_THAT(leases.Expired(deadline), IsEmpty());
  leases.End("job-a");
  EXPECT_FALSE(leases.Renew(kWorker, "job-a", 1, "x", deadline));
}

TEST(LeaseTableTest, ASlowWorkerCannotRenewAfterItsSuccessorWasGranted) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  leases.End("job-a");
  Lease second = First();
  second.lease_epoch = 2;
  second.attempt_id = "y";
  leases.Grant(second, kStart + kLease);
  EXPECT_FALSE(leases.Renew(kWorker, "job-a", 1, "x", kStart + kLease));
  EXPECT_TRUE(leases.Renew(kWorker, "job-a", 2, "y", kStart + kLease));
}

TEST(LeaseTableTest, AnEpochThatComesAgainAfterARestoredBackupIsNotEnough) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  EXPECT_FALSE(leases.Renew(kWorker, "job-a", 1, "another id", kStart));
  EXPECT_EQ(leases.Find(kWorker, "job-a", 1, "another id"), nullptr);
}

TEST(LeaseTableDeathTest, AHeldLeaseIsNotGrantedTwice) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  EXPECT_DEATH(leases.Grant(First(), kStart), "holds a lease on workers/w already");
}

TEST(LeaseTableTest, AReloadKeepsKnownDeadlinesForgetsOthersAndGivesNewOnesTheFirst) {
  LeaseTable leases(kLease);
  leases.Grant(First(), kStart);
  Lease gone = First();
  gone.job = "job-b";
  leases.Grant(gone, kStart);
  Lease found = First();
  found.job = "job-c";

  const absl::Time now = kStart + absl::Seconds(5);
  leases.Reconcile({First(), found}, now, now + absl::Seconds(23));

  EXPECT_EQ(leases.Find(kWorker, "job-a", 1, "x")->expires_at, kStart + kLease);
  EXPECT_EQ(leases.Find(kWorker, "job-b", 1, "x"), nullptr);
  EXPECT_EQ(leases.Find(kWorker, "job-c", 1, "x")->expires_at, now + absl::Seconds(23));
  EXPECT_EQ(leases.size(), 2);
}

TEST(LeaseTableTest, EachWorkerOfAGangHasALeaseOfItsOwn) {
  LeaseTable leases(kLease);
  Lease second = First();
  second.worker = "workers/x";
  leases.Grant(First(), kStart);
  leases.Grant(second, kStart);
  ASSERT_TRUE(leases.Renew(kWorker, "job-a", 1, "x", kStart + absl::Seconds(5)));
  EXPECT_THAT(leases.Expired(kStart + kLease), ElementsAre(Field(&Lease::worker, "workers/x")));
  leases.SetDesired("job-a", v1::Assignment::STOP);
  EXPECT_EQ(leases.Find(kWorker, "job-a", 1, "x")->desired, v1::Assignment::STOP);
  EXPECT_EQ(leases.Find("workers/x", "job-a", 1, "x")->desired, v1::Assignment::STOP);
  leases.EndOn("job-a", "workers/x");
  EXPECT_EQ(leases.Find("workers/x", "job-a", 1, "x"), nullptr);
  EXPECT_NE(leases.Find(kWorker, "job-a", 1, "x"), nullptr);
  leases.End("job-a");
  EXPECT_EQ(leases.size(), 0);
  EXPECT_EQ(leases.NextDeadline(), absl::InfiniteFuture());
}

}  // namespace
}  // namespace deltaworks::scheduler
