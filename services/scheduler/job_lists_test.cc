// Lists: pages without gaps, filters, order, what a tenant sees of workers.

#include "services/scheduler/job_lists.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/proto_time.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/job_filter.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::StatusOr<v1::ListJobsResponse> List(CoreWorld& world, const v1::ListJobsRequest& request) {
  return *world.Read<absl::StatusOr<v1::ListJobsResponse>>(
      [&](const CommittedView& view) { return ListJobs(view, request); });
}

v1::ListJobsRequest JobsOf(const std::string& parent, int page_size = 0) {
  v1::ListJobsRequest request;
  request.set_parent(parent);
  request.set_page_size(page_size);
  return request;
}

// Ids of all pages.
std::vector<std::string> AllPages(CoreWorld& world, v1::ListJobsRequest request) {
  std::vector<std::string> ids;
  do {
    const auto page = List(world, request);
    EXPECT_TRUE(page.ok()) << page.status();
    for (const v1::Job& job : page->jobs()) ids.push_back(job.name().substr(15));
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return ids;
}

TEST(ListJobsTest, PagesGiveEveryJobOnceInEitherOrder) {
  CoreWorld world("list_pages");
  for (const char* id : {"c", "a", "b", "d"}) {
    world.Submit(id);
    if (*id != 'a') world.Advance(absl::Seconds(1));  // a and b at the same time.
  }
  v1::ListJobsRequest request = JobsOf("tenants/t", 3);
  EXPECT_THAT(AllPages(world, request), ElementsAre("d", "b", "a", "c"));
  request.set_order_by("create_time");
  EXPECT_THAT(AllPages(world, request), ElementsAre("c", "a", "b", "d"));
  request.set_page_size(1);
  EXPECT_THAT(AllPages(world, request), ElementsAre("c", "a", "b", "d"));
  EXPECT_THAT(AllPages(world, JobsOf("tenants/other")), IsEmpty());
}

TEST(ListJobsTest, EveryJobOfAPageShowsItsPlaceInTheQueue) {
  CoreWorld world("list_places");
  const std::vector<std::pair<std::string, v1::PriorityClass>> jobs = {
      {"a", v1::LOW}, {"b", v1::HIGH}, {"c", v1::NORMAL}, {"d", v1::HIGH}};
  for (const auto& [id, priority] : jobs) {
    v1::CreateJobRequest request = scheduler::MakeCreateRequest(id);
    request.mutable_job()->set_priority_class(priority);
    ASSERT_TRUE(world.Change(request).ok());
    world.Advance(absl::Seconds(1));
  }
  v1::ListJobsRequest request = JobsOf("tenants/t");
  request.set_order_by("create_time");
  const auto page = List(world, request);
  ASSERT_TRUE(page.ok()) << page.status();
  std::vector<int64_t> places;
  for (const v1::Job& job : page->jobs()) {
    places.push_back(job.status().waiting().queue_position());
    // One job alone says the same.
    EXPECT_EQ(world.Get(job.name())->status().waiting().queue_position(), places.back());
  }
  EXPECT_THAT(places, ElementsAre(4, 1, 3, 2));
}

TEST(ListJobsTest, WhatIsWrongWithARequestIsNamed) {
  CoreWorld world("list_wrong");
  world.Submit("a");
  world.Submit("b");
  v1::ListJobsRequest request = JobsOf("tenants/t", 1);
  request.set_order_by("name");
  EXPECT_THAT(std::string(List(world, request).status().message()), HasSubstr("order_by is"));
  request.set_order_by("");
  request.set_page_token(List(world, request)->next_page_token());
  ASSERT_NE(request.page_token(), "");
  request.set_filter("state = active");
  EXPECT_TRUE(absl::IsInvalidArgument(List(world, request).status()));
}

TEST(JobFilterTest, EveryFieldSelects) {
  v1::Job job;
  job.set_priority_class(v1::HIGH);
  job.set_parent_job("tenants/t/jobs/sweep");
  job.mutable_train()->set_base_model("tenants/t/baseModels/base");
  job.mutable_train()->set_dataset("tenants/t/datasets/data");
  job.mutable_train()->set_adapter("tenants/t/adapters/a");
  job.mutable_status()->set_state(v1::QUEUED);
  (*job.mutable_labels())["team"] = "a \"b\" c";
  for (const char* matches :
       {"", "  ", "state = QUEUED", "state=active", "priority_class = HIGH",
        "parent_job = tenants/t/jobs/sweep", "train.base_model = tenants/t/baseModels/base",
        "train.dataset = \"tenants/t/datasets/data\"", "train.adapter = tenants/t/adapters/a",
        R"(labels.team = "a \"b\" c")", "state = QUEUED AND priority_class = HIGH"}) {
    const auto filter = JobFilter::Parse(matches);
    ASSERT_TRUE(filter.ok()) << filter.status();
    EXPECT_TRUE(filter->Matches(job)) << matches;
  }
  for (const char* differs :
       {"state = RUNNING", "priority_class = LOW", "parent_job = x", "train.base_model = x",
        "train.dataset = x", "train.adapter = x", "labels.team = a", "labels.other = a",
        "state = QUEUED AND labels.team = a"}) {
    const auto filter = JobFilter::Parse(differs);
    ASSERT_TRUE(filter.ok()) << filter.status();
    EXPECT_FALSE(filter->Matches(job)) << differs;
  }
  job.mutable_status()->set_state(v1::FAILED);
  EXPECT_FALSE(JobFilter::Parse("state = active")->Matches(job));
}

TEST(JobFilterTest, WhatIsNoFilterIsNamed) {
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"state", "want field = value"},
           {"= x", "want field = value"},
           {"state = sleeping", "want a JobState"},
           {"priority_class = 3", "want LOW, NORMAL or HIGH"},
           {"owner = me", "want one of the fields"},
           {"labels. = x", "want one of the fields"},
           {"state = QUEUED state = RUNNING", "want AND between two terms"},
           {"labels.a = \"open", "want a closing quote"},
           {std::string(5000, ' '), "want at most 4096"}}) {
    const auto filter = JobFilter::Parse(text);
    EXPECT_TRUE(absl::IsInvalidArgument(filter.status())) << text.substr(0, 50);
    EXPECT_THAT(std::string(filter.status().message()), HasSubstr(message));
  }
}

TEST(ListJobEventsTest, PagesGiveEveryEventOnce) {
  CoreWorld world("list_events");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Finish(worker);
  v1::ListJobEventsRequest request;
  request.set_parent(job);
  request.set_page_size(7);
  int64_t seq = 0;
  do {
    const auto page = *world.Read<absl::StatusOr<v1::ListJobEventsResponse>>(
        [&](const auto& view) { return ListJobEvents(view, request); });
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::JobEvent& event : page->job_events()) EXPECT_EQ(event.seq(), ++seq);
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(seq, world.Get(job)->status().last_event_seq());
  request.set_since_seq(seq + 1);
  EXPECT_TRUE(absl::IsOutOfRange(
      (*world.Read<absl::StatusOr<v1::ListJobEventsResponse>>([&](const auto& view) {
        return ListJobEvents(view, request);
      })).status()));
  request.set_parent(JobName("none"));
  EXPECT_TRUE(absl::IsNotFound(
      (*world.Read<absl::StatusOr<v1::ListJobEventsResponse>>([&](const auto& view) {
        return ListJobEvents(view, request);
      })).status()));
}

TEST(ListJobMetricsTest, AnyRangeOfStepsComesInPages) {
  CoreWorld world("list_metrics");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Finish(worker);
  struct Case {
    int64_t step_min, step_max, first, last;
  };
  for (const Case& c : std::vector<Case>{
           {0, 0, 1, 100}, {1, 100, 1, 100}, {30, 40, 30, 40}, {95, 0, 95, 100}, {0, 3, 1, 3}}) {
    v1::ListJobMetricsRequest request;
    request.set_parent(job);
    request.set_page_size(4);
    request.set_step_min(c.step_min);
    request.set_step_max(c.step_max);
    int64_t step = c.first - 1;
    do {
      const auto page = *world.Read<absl::StatusOr<v1::ListJobMetricsResponse>>(
          [&](const auto& view) { return ListJobMetrics(view, request); });
      ASSERT_TRUE(page.ok()) << page.status();
      for (const v1::MetricPoint& point : page->metric_points()) EXPECT_EQ(point.step(), ++step);
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    EXPECT_EQ(step, c.last);
  }
}

TEST(ListWorkersTest, AWorkerOnWhichAttemptsDieSaysHowOftenAndUntilWhenItRests) {
  CoreWorld world("list_quarantine");
  ScriptedWorker worker("w");
  world.Sync(worker);
  const auto listed = [&] {
    return world
        .Read<absl::StatusOr<v1::ListWorkersResponse>>([](const CommittedView& view) {
          return ListWorkers(view, Caller{kAllTenants}, v1::ListWorkersRequest());
        })
        .value()
        ->workers(0);
  };
  for (int incidents = 0; incidents < 3; ++incidents) {
    EXPECT_EQ(listed().incidents(), incidents);
    EXPECT_FALSE(listed().has_quarantined_until());
    // It dies with one that did not die there before.
    const std::string job = world.Submit(absl::StrCat("j", incidents));
    ASSERT_EQ(world.StateOf(job), v1::RUNNING);
    world.Advance(absl::Seconds(1));
    worker.Restart();
    world.Sync(worker);
    ASSERT_TRUE(world.Cancel(job).ok());
    worker.Restart();
    world.Sync(worker);
  }
  EXPECT_EQ(listed().mode(), v1::WORKER_QUARANTINED);
  EXPECT_GT(scheduler::FromProto(listed().quarantined_until()), absl::UnixEpoch());
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_workers_quarantined"), 1);
}

TEST(ListWorkersTest, ATenantSeesItsOwnJobsAndTheCountOfAll) {
  CoreWorld world("list_workers");
  ScriptedWorker busy("busy");
  ScriptedWorker idle("idle");
  const std::string job = world.Submit("a");
  world.Sync(busy);
  world.Sync(idle);
  v1::ListWorkersRequest request;
  const auto list = [&](const std::string& tenant) {
    const auto page = *world.Read<absl::StatusOr<v1::ListWorkersResponse>>(
        [&](const auto& view) { return ListWorkers(view, Caller{tenant}, request); });
    EXPECT_TRUE(page.ok()) << page.status();
    return *page;
  };
  v1::ListWorkersResponse own = list("t");
  ASSERT_THAT(own.workers(), SizeIs(2));
  EXPECT_EQ(own.workers(0).name(), "workers/busy");
  EXPECT_TRUE(own.workers(0).online());
  EXPECT_THAT(own.workers(0).jobs(), ElementsAre(job));
  EXPECT_THAT(own.workers(1).jobs(), IsEmpty());
  const v1::ListWorkersResponse foreign = list("other");
  EXPECT_THAT(foreign.workers(0).jobs(), IsEmpty());
  EXPECT_EQ(foreign.workers(0).job_count(), 1);
  EXPECT_THAT(list(kAllTenants).workers(0).jobs(), ElementsAre(job));

  EXPECT_EQ(own.workers(1).mode(), v1::WORKER_ACTIVE);
  v1::SetWorkerModeRequest cordon;
  cordon.set_worker("workers/idle");
  cordon.set_mode(v1::WORKER_CORDONED);
  world.core->ChangeThenRead(cordon, [](const absl::StatusOr<CommittedView>& view) {
    EXPECT_TRUE(view.ok()) << view.status();
  });
  world.loop.RunReady();
  EXPECT_EQ(list("t").workers(0).mode(), v1::WORKER_ACTIVE);
  EXPECT_EQ(list("t").workers(1).mode(), v1::WORKER_CORDONED);

  request.set_page_size(1);
  own = list("t");
  ASSERT_THAT(own.workers(), SizeIs(1));
  request.set_page_token(own.next_page_token());
  EXPECT_EQ(list("t").workers(0).name(), "workers/idle");
  EXPECT_EQ(list("t").next_page_token(), "");
}

}  // namespace
}  // namespace deltaworks::services
