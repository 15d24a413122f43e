// Whose turn it is: tenants, quotas, and those who have waited for too long.

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/fair_share.h"
#include "scheduler/grant_planner.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

// ---- The order of tenants, as a literal table ----

TEST(FairShareTest, TheTenantThatUsedLeastForItsWeightGoesFirst) {
  struct Case {
    const char* what;
    TenantShare first, second;
  };
  const Case cases[] = {
      {"used less", {.used_seconds = 10}, {.used_seconds = 11}},
      {"twice the weight", {.weight = 2, .used_seconds = 19}, {.used_seconds = 10}},
      {"a running attempt counts at once", {.used_seconds = 500}, {.attempts = 1}},
      {"below what is guaranteed",
       {.guaranteed_devices = 2, .used_seconds = 1e9, .devices = 1},
       {.guaranteed_devices = 1, .devices = 1}},
  };
  for (const Case& c : cases) {
    EXPECT_TRUE(GoesBefore(c.first, c.second, absl::Minutes(10))) << c.what;
    EXPECT_FALSE(GoesBefore(c.second, c.first, absl::Minutes(10))) << c.what;
  }
}

// ---- In the whole ----

class FairnessTest : public ProtocolTest {
 protected:
  static Options Fast() {
    Options options;
    options.preempt_after = absl::Seconds(0);
    return options;
  }
  explicit FairnessTest(const Options& options = Fast()) : ProtocolTest(options) {}

  std::string SubmitOf(const std::string& tenant, const std::string& id,
                       v1::PriorityClass priority_class = v1::NORMAL) {
    v1::CreateJobRequest request = MakeCreateRequest(id);
    request.set_parent(absl::StrCat("tenants/", tenant));
    for (std::string* name : {request.mutable_job()->mutable_train()->mutable_base_model(),
                              request.mutable_job()->mutable_train()->mutable_dataset()}) {
      name->replace(0, 9, absl::StrCat("tenants/", tenant));
    }
    request.mutable_job()->set_priority_class(priority_class);
    if (timing.has_start_after()) *request.mutable_job()->mutable_timing() = timing;
    h.now += absl::Seconds(1);
    return h.Submit(request);
  }

  void Online(int workers) {
    for (int i = 0; i < workers; ++i) {
      fleet.emplace_back(absl::StrCat("w", i));
      CHECK(h.Sync(&fleet.back()).ok());
    }
  }

  // How many jobs of each tenant run.
  std::map<std::string, int> Running() {
    std::map<std::string, int> running;
    for (const auto& [name, record] : h.scheduler->state()->jobs()) {
      if (record.job().status().state() == v1::RUNNING) ++running[name.substr(8, 1)];
    }
    return running;
  }

  void SetQuota(const std::string& tenant, double weight, int64_t guaranteed, int64_t limit = -1) {
    v1::SetQuotaRequest request;
    v1::Quota& quota = *request.mutable_quota();
    quota.set_name(absl::StrCat("tenants/", tenant, "/quota"));
    quota.set_weight(weight);
    quota.set_guaranteed_devices(guaranteed);
    if (limit >= 0) quota.set_limit_devices(limit);
    request.set_force(true);
    CHECK(h.Execute(request).ok());
    h.Tick();
  }

  // Its worker says LEFT, unasked, having used the device for so long. It costs a retry.
  void Leave(const std::string& job, absl::Duration used = absl::ZeroDuration()) {
    for (FakeWorker& w : fleet) {
      if (w.name != h.Record(job).current().worker()) continue;
      v1::AttemptReport report;
      report.set_job(job);
      report.set_attempt_id(h.Record(job).current().attempt_id());
      report.set_lease_epoch(h.Record(job).current().lease_epoch());
      report.set_phase(kLeft);
      report.set_device_ms(absl::ToInt64Milliseconds(used));
      CHECK(h.Sync(&w, {report}).ok());
      return;
    }
  }

  v1::Timing timing;  // Of what is submitted.
  std::vector<FakeWorker> fleet;
};

TEST_F(FairnessTest, OnePlanThatGivesManyDevicesAwayAlternatesBetweenTenants) {
  Online(6);
  *timing.mutable_start_after() = ToProto(h.now + absl::Seconds(18));
  for (int i = 0; i < 8; ++i) SubmitOf("a", absl::StrCat("a", i));
  for (int i = 0; i < 8; ++i) SubmitOf("b", absl::StrCat("b", i));
  EXPECT_EQ(Running(), (std::map<std::string, int>()));
  h.Advance(absl::Seconds(2));  // All of them at once.
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 3}, {"b", 3}}));
}

TEST_F(FairnessTest, DevicesAreSharedByWeight) {
  SetQuota("a", 3, 0);
  for (int i = 0; i < 8; ++i) SubmitOf("b", absl::StrCat("b", i));
  for (int i = 0; i < 8; ++i) SubmitOf("a", absl::StrCat("a", i));
  Online(8);
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 6}, {"b", 2}}));
}

TEST_F(FairnessTest, WhatATenantUsedCountsAgainstItAndIsForgottenWithTime) {
  const std::string a = SubmitOf("a", "a0");
  Online(1);
  h.now += absl::Seconds(15);
  // Other tenants come, and a has used 15 s.
  SubmitOf("b", "b0");
  const std::string c = SubmitOf("c", "c0");
  Leave(a, absl::Seconds(15));
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"b", 1}}));
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
}

TEST_F(FairnessTest, NobodyIsOnMoreDevicesThanItsLimit) {
  SetQuota("a", 1, 0, 2);
  std::string last;
  for (int i = 0; i < 5; ++i) last = SubmitOf("a", absl::StrCat("a", i));
  SubmitOf("b", "b0");
  Online(4);
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 2}, {"b", 1}}));
  EXPECT_EQ(h.WaitingOf(last).reason(), v1::QUOTA_REACHED);
  EXPECT_EQ(h.WaitingOf(last).message(), "the tenant is on 2 devices, as many as its quota allows");
  SetQuota("a", 1, 0, 3);
  EXPECT_EQ(Running()["a"], 3);
  // A lower limit stops nobody.
  SetQuota("a", 1, 0, 0);
  EXPECT_EQ(Running()["a"], 3);
}

TEST_F(FairnessTest, AtItsLimitATenantStillFillsTheDevicesItIsOn) {
  SetQuota("a", 1, 0, 1);
  Online(2);
  const auto submit = [&](const std::string& id) {
    v1::CreateJobRequest request = MakeCreateRequest(id);
    request.set_parent("tenants/a");
    request.mutable_job()->mutable_train()->set_base_model("tenants/a/baseModels/b");
    request.mutable_job()->mutable_train()->set_dataset("tenants/a/datasets/d");
    return h.Submit(request, MakeSharingFacts(64));
  };
  const std::string first = submit("a0");
  const std::string second = submit("a1");
  EXPECT_EQ(h.Record(first).current().worker(), h.Record(second).current().worker());
}

TEST_F(FairnessTest, WhatIsGuaranteedComesFirstAndIsTakenBackFromThoseWhoHaveMore) {
  for (int i = 0; i < 4; ++i) SubmitOf("a", absl::StrCat("a", i));
  Online(4);
  EXPECT_EQ(Running()["a"], 4);
  SetQuota("b", 1, 2, 2);
  for (int i = 0; i < 3; ++i) SubmitOf("b", absl::StrCat("b", i), v1::LOW);
  int yielding = 0;
  std::vector<std::string> victims;
  for (const auto& [name, record] : h.scheduler->state()->jobs()) {
    if (record.current().ordered() == v1::Assignment::YIELD) victims.push_back(name);
  }
  ASSERT_EQ(victims.size(), 1) << "a plan looks at one job of a shape";
  for (int i = 0; i < 2; ++i) {
    victims.clear();
    for (const auto& [name, record] : h.scheduler->state()->jobs()) {
      if (record.current().ordered() == v1::Assignment::YIELD) victims.push_back(name);
    }
    h.now += h.options.preemption_interval;
    for (const std::string& victim : victims) Leave(victim);
    yielding += static_cast<int>(victims.size());
  }
  EXPECT_EQ(yielding, 2);
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 2}, {"b", 2}}));
}

TEST_F(FairnessTest, AClassIsNoWayAroundFairShare) {
  Online(2);
  SubmitOf("a", "a0", v1::LOW);
  SubmitOf("b", "b0", v1::LOW);
  h.now += absl::Seconds(15);
  // a's turn does not come before b's, however important it says that it is.
  SubmitOf("a", "a1", v1::HIGH);
  for (const auto& [name, record] : h.scheduler->state()->jobs()) {
    EXPECT_EQ(record.current().ordered() == v1::Assignment::YIELD, name == "tenants/a/jobs/a0")
        << name;
  }
}

TEST_F(FairnessTest, WhoHasJustGotItsTurnDoesNotLoseItToTheOneThatHasNot) {
  Online(1);
  const std::string low = SubmitOf("a", "a0", v1::LOW);
  SubmitOf("b", "b0", v1::NORMAL);
  h.now += absl::Seconds(5);
  h.Tick();
  EXPECT_EQ(h.Record(low).current().ordered(), v1::Assignment::DESIRED_UNSPECIFIED);
  // Once a has used something, it is b's turn, and its class is higher.
  v1::AttemptReport report;
  report.set_job(low);
  report.set_attempt_id(h.Record(low).current().attempt_id());
  report.set_lease_epoch(h.Record(low).current().lease_epoch());
  report.set_phase(kTraining);
  report.set_device_ms(5'000);
  ASSERT_TRUE(h.Sync(&fleet[0], {report}).ok());
  h.Advance(h.options.preemption_interval);
  EXPECT_EQ(h.Record(low).current().ordered(), v1::Assignment::YIELD);
}

TEST_F(FairnessTest, APlanHasABoundAndTheNextGoesOn) {
  Online(300);
  *timing.mutable_start_after() = ToProto(h.now + absl::Seconds(301));
  for (int i = 0; i < 300; ++i) SubmitOf("a", absl::StrCat("a", i));
  for (FakeWorker& w : fleet) ASSERT_TRUE(h.Sync(&w).ok());
  h.Advance(absl::Seconds(1));
  EXPECT_EQ(Running()["a"], 300);
}

// Leases that last: days pass and nobody has to report.
class OverdueTest : public FairnessTest {
 protected:
  static Options Lasting() {
    Options options = Fast();
    options.lease_duration = absl::Hours(24 * 365);
    return options;
  }
  OverdueTest() : FairnessTest(Lasting()) {}

  std::string SubmitOnBase(const std::string& id, int64_t base) {
    v1::TrainFacts facts = MakeSharingFacts(64);
    facts.set_base_manifest_digest(FakeDigest(base));
    return h.Submit(MakeCreateRequest(id), facts);
  }
};

TEST_F(OverdueTest, EachKeepsAWorkerOfItsOwn) {
  const absl::Duration overdue = h.options.max_overtake + h.options.bonus_high;
  Online(3);
  for (int i = 0; i < 3; ++i) SubmitOnBase(absl::StrCat("running", i), 1);
  SubmitOnBase("old0", 2);
  SubmitOnBase("old1", 2);
  h.Advance(overdue);
  EXPECT_EQ(h.StateOfJob(SubmitOnBase("joins", 1)), v1::RUNNING);
  SubmitOnBase("old2", 2);
  h.Advance(overdue);
  EXPECT_EQ(h.StateOfJob(SubmitOnBase("waits", 1)), v1::QUEUED);
}

TEST_F(OverdueTest, BeyondABoundOfThemNobodyElseGetsAnything) {
  const absl::Duration overdue = h.options.max_overtake + h.options.bonus_high;
  Online(static_cast<int>(GrantPlanner::kHeldOverdueMax) + 10);
  for (size_t i = 0; i < fleet.size(); ++i) SubmitOnBase(absl::StrCat("running", i), 1);
  for (size_t i = 0; i < GrantPlanner::kHeldOverdueMax; ++i) {
    SubmitOnBase(absl::StrCat("old", i), 2);
  }
  h.Advance(overdue);
  EXPECT_EQ(h.StateOfJob(SubmitOnBase("joins", 1)), v1::RUNNING);
  SubmitOnBase("one-more", 2);
  h.Advance(overdue);
  EXPECT_EQ(h.StateOfJob(SubmitOnBase("waits", 1)), v1::QUEUED);
}

TEST_F(OverdueTest, DoesNotTakeAlongTheLaterOnesOfItsTenant) {
  const absl::Duration overdue = h.options.max_overtake + h.options.bonus_high;
  SetQuota("b", 1'000'000, 0);
  Online(2);
  // Time passes in one piece, so that all of them come into one plan.
  const absl::Time begin = h.now + absl::Minutes(5);
  *timing.mutable_start_after() = ToProto(begin);
  const std::string old = SubmitOf("a", "old");
  *timing.mutable_start_after() = ToProto(begin + overdue);
  SubmitOf("a", "later");
  SubmitOf("b", "b0");
  h.now = begin + overdue + absl::Seconds(1);
  h.Tick();
  EXPECT_EQ(h.StateOfJob(old), v1::RUNNING);
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 1}, {"b", 1}}));
}

TEST_F(FairnessTest, AJobThatWaitedForTooLongGoesBeforeEveryTenantsTurn) {
  SetQuota("b", 1'000'000, 0);
  h.now += absl::Seconds(1);
  const std::string old = SubmitOf("a", "old");
  h.now +=
      h.options.max_overtake + h.options.bonus_high - h.options.bonus_normal - absl::Seconds(20);
  SubmitOf("b", "b0");
  SubmitOf("b", "b1");
  Online(1);
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 1}}));  // Not yet: a used nothing.
  h.now += absl::Seconds(5);
  Leave(old, absl::Seconds(5));
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"b", 1}}));
  h.now += absl::Seconds(15);
  Leave("tenants/b/jobs/b0");
  EXPECT_EQ(Running(), (std::map<std::string, int>{{"a", 1}}));
}

}  // namespace
}  // namespace deltaworks::scheduler
