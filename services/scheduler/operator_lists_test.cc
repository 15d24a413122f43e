// What operators read: pages without gaps, bounds of days, what a tenant sees of it, and what is
// told to leave.

#include "services/scheduler/operator_lists.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// 2024-01-01, where FakeClock begins.
constexpr int64_t kFirstDay = 19'723;

class OperatorListsTest : public ::testing::Test {
 protected:
  OperatorListsTest()
      : world_(::testing::UnitTest::GetInstance()->current_test_info()->name(), Options()) {}

  static SchedulerCore::Options Options() {
    SchedulerCore::Options options;
    options.policy.device_hour_price = 3.6;
    return options;
  }

  absl::Status SetQuota(const std::string& tenant, int64_t limit) {
    v1::SetQuotaRequest request;
    request.mutable_quota()->set_name(absl::StrCat("tenants/", tenant, "/quota"));
    request.mutable_quota()->set_limit_devices(limit);
    return Change(request);
  }
  absl::Status SetMode(v1::WorkerMode mode) {
    v1::SetWorkerModeRequest request;
    request.set_worker("workers/w");
    request.set_mode(mode);
    return Change(request);
  }
  absl::Status Change(const scheduler::Command& command) {
    std::optional<absl::Status> status;
    world_.core->ChangeThenRead(
        command, [&](absl::StatusOr<CommittedView> view) { status = view.status(); });
    world_.loop.RunReady();
    return *status;
  }
  v1::SetWorkerModeResponse Mode() {
    return **world_.Read<absl::StatusOr<v1::SetWorkerModeResponse>>(
        [](const CommittedView& view) { return ShowWorkerMode(view, "workers/w"); });
  }
  // Trains a job of `tenant` to its end, 1.5 s a step, today.
  void Use(const std::string& tenant) {
    v1::CreateJobRequest request = scheduler::MakeCreateRequest(absl::StrCat("job-", ++jobs_));
    request.set_parent(absl::StrCat("tenants/", tenant));
    v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
    spec.set_base_model(absl::StrCat("tenants/", tenant, "/baseModels/base"));
    spec.set_dataset(absl::StrCat("tenants/", tenant, "/datasets/data"));
    spec.clear_adapter();
    const auto job = world_.Change(request);
    ASSERT_TRUE(job.ok()) << job.status();
    world_.Sync(worker_);
    // Nobody can have used more than has passed.
    for (int i = 0; i < 20; ++i) {
      world_.Advance(absl::Seconds(10));
      world_.Sync(worker_);
    }
    world_.Finish(worker_);
    ASSERT_TRUE(worker_.idle());
  }
  absl::StatusOr<v1::ListUsageResponse> List(const std::string& caller,
                                             const v1::ListUsageRequest& request) {
    return *world_.Read<absl::StatusOr<v1::ListUsageResponse>>(
        [&](const CommittedView& view) { return ListUsage(view, Caller{caller}, request); });
  }
  // "tenant day device_ms tokens written_bytes cost" of all pages.
  std::vector<std::string> AllUsage(const std::string& caller, v1::ListUsageRequest request) {
    std::vector<std::string> rows;
    do {
      const auto page = List(caller, request);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) break;
      for (const v1::UsageDay& row : page->days()) {
        EXPECT_EQ(row.day().seconds() % 86'400, 0);
        rows.push_back(absl::StrCat(row.tenant(), " ", row.day().seconds() / 86'400 - kFirstDay,
                                    " ", row.device_ms(), " ", row.tokens(), " ",
                                    row.written_bytes(), " ", row.cost()));
      }
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    return rows;
  }
  static v1::ListUsageRequest UsageOf(const std::string& parent, int page_size = 0) {
    v1::ListUsageRequest request;
    request.set_parent(parent);
    request.set_page_size(page_size);
    return request;
  }

  CoreWorld world_;
  ScriptedWorker worker_{"w"};
  int jobs_ = 0;
};

TEST_F(OperatorListsTest, PagesGiveEveryQuotaOnceAndATenantItsOwn) {
  for (const char* tenant : {"c", "a", "b"}) ASSERT_TRUE(SetQuota(tenant, 7).ok());
  const auto names = [&](const std::string& caller, int page_size) {
    v1::ListQuotasRequest request;
    request.set_page_size(page_size);
    std::vector<std::string> names;
    do {
      const auto page = *world_.Read<absl::StatusOr<v1::ListQuotasResponse>>(
          [&](const CommittedView& view) { return ListQuotas(view, Caller{caller}, request); });
      EXPECT_TRUE(page.ok()) << page.status();
      EXPECT_LE(page->quotas_size(), page_size);
      for (const v1::Quota& quota : page->quotas()) names.push_back(quota.name());
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    return names;
  };
  for (const int page_size : {1, 2, 3, 100}) {
    EXPECT_THAT(names(kAllTenants, page_size),
                ElementsAre("tenants/a/quota", "tenants/b/quota", "tenants/c/quota"));
  }
  EXPECT_THAT(names("b", 1), ElementsAre("tenants/b/quota"));
  EXPECT_THAT(names("d", 1), IsEmpty());
}

TEST_F(OperatorListsTest, UsageIsByDayAndTenantNewestFirst) {
  worker_.SetStepTime(absl::Milliseconds(1500));
  Use("t");
  Use("a");
  world_.Advance(absl::Hours(24));
  Use("t");
  Use("t");
  const std::vector<std::string> rows = {"tenants/t 1 300000 200000 2048 0.3",
                                         "tenants/a 0 150000 100000 1024 0.15",
                                         "tenants/t 0 150000 100000 1024 0.15"};
  for (const int page_size : {1, 2, 3, 100}) {
    EXPECT_EQ(AllUsage(kAllTenants, UsageOf("tenants/-", page_size)), rows);
  }
  EXPECT_THAT(AllUsage(kAllTenants, UsageOf("tenants/a")), ElementsAre(rows[1]));
  EXPECT_THAT(AllUsage(kAllTenants, UsageOf("tenants/nobody")), IsEmpty());
  // A tenant's own, however it asks.
  EXPECT_THAT(AllUsage("t", UsageOf("tenants/t", 1)), ElementsAre(rows[0], rows[2]));
  EXPECT_THAT(AllUsage("t", UsageOf("tenants/-", 1)), ElementsAre(rows[0], rows[2]));
  EXPECT_TRUE(absl::IsPermissionDenied(List("t", UsageOf("tenants/a")).status()));

  v1::ListUsageRequest request = UsageOf("tenants/-");
  request.set_first_day(kFirstDay + 1);
  EXPECT_THAT(AllUsage(kAllTenants, request), ElementsAre(rows[0]));
  request.set_last_day(kFirstDay + 1);
  EXPECT_THAT(AllUsage(kAllTenants, request), ElementsAre(rows[0]));
  request.set_first_day(0);
  request.set_last_day(kFirstDay);
  EXPECT_THAT(AllUsage(kAllTenants, request), ElementsAre(rows[1], rows[2]));
  world_.Restart();
  EXPECT_EQ(AllUsage(kAllTenants, UsageOf("tenants/-")), rows);
}

TEST_F(OperatorListsTest, WhatIsWrongWithARequestIsNamed) {
  struct Case {
    std::string parent;
    int64_t first_day, last_day;
    std::string page_token;
    const char* message;
  };
  for (const Case& c : std::vector<Case>{
           {"t", 0, 0, "", "parent is \"t\", want tenants/{tenant}"},
           {"tenants/t", -1, 0, "", "first_day is -1, last_day is 0, want days since 1970-01-01"},
           {"tenants/t", 0, -1, "", "last_day is -1"},
           {"tenants/t", 20'001, 20'000, "", "the first not after the last"},
           {"tenants/t", 0, 0, "x", "page_token is not one of this server"},
       }) {
    v1::ListUsageRequest request = UsageOf(c.parent);
    request.set_first_day(c.first_day);
    request.set_last_day(c.last_day);
    request.set_page_token(c.page_token);
    const auto page = List("t", request);
    EXPECT_TRUE(absl::IsInvalidArgument(page.status())) << page.status();
    EXPECT_THAT(std::string(page.status().message()), HasSubstr(c.message));
  }
}

TEST_F(OperatorListsTest, WhatADrainTellsToLeaveIsCountedUntilItHasLeft) {
  world_.Submit("a");
  world_.Sync(worker_);
  world_.Sync(worker_);
  EXPECT_EQ(Mode().mode(), v1::WORKER_ACTIVE);
  ASSERT_TRUE(SetMode(v1::WORKER_CORDONED).ok());
  EXPECT_EQ(Mode().mode(), v1::WORKER_CORDONED);
  EXPECT_EQ(Mode().leaving(), 0);
  for (int i = 0; i < 2; ++i) {  // Told again, the answer is the same.
    ASSERT_TRUE(SetMode(v1::WORKER_DRAINED).ok());
    EXPECT_EQ(Mode().mode(), v1::WORKER_DRAINED);
    EXPECT_EQ(Mode().leaving(), 1);
  }
  for (int i = 0; i < 3; ++i) {
    world_.Sync(worker_);
    worker_.Train(1);
  }
  world_.Sync(worker_);
  EXPECT_EQ(Mode().leaving(), 0);
  EXPECT_EQ(world_.StateOf(scheduler::JobName("a")), v1::QUEUED);
}

}  // namespace
}  // namespace deltaworks::services
