// Jobs that ended, across the whole service: what people see of them does not depend on whether
// they left the state; they are deleted when asked or when they are too old.

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/job_lists.h"
#include "services/scheduler/job_page.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr absl::Duration kArchiveAfter = absl::Minutes(10);

// A list and how many pages it had.
struct Listed {
  std::vector<std::string> ids;
  int pages = 0;
};

Listed List(CoreWorld& world, const std::string& filter, int page_size = 100,
            const std::string& order_by = "") {
  v1::ListJobsRequest request;
  request.set_parent("tenants/t");
  request.set_filter(filter);
  request.set_page_size(page_size);
  request.set_order_by(order_by);
  Listed listed;
  do {
    const auto page = *world.Read<absl::StatusOr<v1::ListJobsResponse>>(
        [&](const CommittedView& view) { return ListJobs(view, request); });
    EXPECT_TRUE(page.ok()) << page.status();
    ++listed.pages;
    EXPECT_LE(page->jobs_size(), page_size);
    for (const v1::Job& job : page->jobs()) listed.ids.push_back(job.name().substr(15));
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return listed;
}

bool IsInState(CoreWorld& world, const std::string& job) {
  return *world.Read<bool>(
      [&](const CommittedView& view) { return view.state.FindJob(job) != nullptr; });
}

// A job that trained to its end.
std::string Succeeded(CoreWorld& world, const std::string& id) {
  ScriptedWorker worker("w-" + id);
  const std::string job = world.Submit(id);
  world.Finish(worker);
  world.Advance(absl::Seconds(5));
  EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
  return job;
}

std::string Cancelled(CoreWorld& world, const std::string& id) {
  const std::string job = world.Submit(id);
  EXPECT_TRUE(world.Cancel(job).ok());
  return job;
}

TEST(ArchiveTest, AJobLooksTheSameBeforeAndAfterItLeftTheState) {
  CoreWorld world("archive_same");
  const std::string job = Succeeded(world, "a");
  const std::string before = scheduler::DeterministicBytes(*world.Get(job));
  const auto events = [&] {
    v1::ListJobEventsRequest request;
    request.set_parent(job);
    return scheduler::DeterministicBytes(**world.Read<absl::StatusOr<v1::ListJobEventsResponse>>(
        [&](const auto& view) { return ListJobEvents(view, request); }));
  };
  const auto metrics = [&] {
    v1::ListJobMetricsRequest request;
    request.set_parent(job);
    return scheduler::DeterministicBytes(**world.Read<absl::StatusOr<v1::ListJobMetricsResponse>>(
        [&](const auto& view) { return ListJobMetrics(view, request); }));
  };
  const std::string events_before = events();
  const std::string metrics_before = metrics();
  ASSERT_TRUE(IsInState(world, job));
  world.Advance(kArchiveAfter);
  for (const bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    ASSERT_FALSE(IsInState(world, job));
    EXPECT_EQ(scheduler::DeterministicBytes(*world.Get(job)), before);
    EXPECT_EQ(events(), events_before);
    EXPECT_EQ(metrics(), metrics_before);
    world.Restart();
  }
}

TEST(ArchiveTest, ListsMergeWhatLeftTheStateWithWhatIsInIt) {
  CoreWorld world("archive_lists");
  // Old and new ones that ended and did not, alternating.
  for (int i = 0; i < 6; ++i) {
    if (i % 2 == 0) {
      Cancelled(world, absl::StrCat("j", i));
    } else {
      world.Submit(absl::StrCat("j", i));
    }
    world.Advance(absl::Seconds(1));
  }
  world.Advance(kArchiveAfter);
  ASSERT_FALSE(IsInState(world, JobName("j0")));
  Cancelled(world, "j6");
  ASSERT_TRUE(IsInState(world, JobName("j6")));
  for (const int page_size : {1, 2, 3, 100}) {
    SCOPED_TRACE(page_size);
    EXPECT_THAT(List(world, "", page_size).ids,
                ElementsAre("j6", "j5", "j4", "j3", "j2", "j1", "j0"));
    EXPECT_THAT(List(world, "", page_size, "create_time").ids,
                ElementsAre("j0", "j1", "j2", "j3", "j4", "j5", "j6"));
    EXPECT_THAT(List(world, "state = CANCELLED", page_size).ids,
                ElementsAre("j6", "j4", "j2", "j0"));
    EXPECT_THAT(List(world, "state = active", page_size).ids, ElementsAre("j5", "j3", "j1"));
    EXPECT_THAT(List(world, "state = CANCELLED AND priority_class = HIGH", page_size).ids,
                IsEmpty());
  }
  EXPECT_EQ(List(world, "", 7).pages, 1);
  EXPECT_EQ(List(world, "", 6).pages, 2);
}

TEST(ArchiveTest, AFilterThatFewJobsMatchMakesShortPagesNotLongTurns) {
  CoreWorld world("archive_short_pages");
  constexpr int kJobs = kArchiveLooksMax + 200;
  v1::CreateJobRequest labelled = scheduler::MakeCreateRequest("labelled");
  (*labelled.mutable_job()->mutable_labels())["team"] = "red";
  labelled.mutable_job()->set_priority_class(v1::HIGH);
  ASSERT_TRUE(world.Cancel(world.Change(labelled)->name()).ok());
  for (int i = 0; i < kJobs; ++i) Cancelled(world, absl::StrCat("j", i));
  world.Advance(kArchiveAfter);
  for (int i = 0; i < 10; ++i) world.Advance(absl::Seconds(1));
  ASSERT_FALSE(IsInState(world, JobName("labelled")));
  // Found at once by an index; and step by step where there is none.
  EXPECT_THAT(List(world, "labels.team = red").ids, ElementsAre("labelled"));
  EXPECT_EQ(List(world, "labels.team = red").pages, 1);
  const Listed scanned = List(world, "priority_class = HIGH");
  EXPECT_THAT(scanned.ids, ElementsAre("labelled"));
  EXPECT_EQ(scanned.pages, 2);
}

TEST(ArchiveTest, SoItIsWithJobsThatWait) {
  CoreWorld world("archive_short_pages_of_waiting");
  world.pool.hold = true;  // Nobody validates them.
  v1::CreateJobRequest labelled = scheduler::MakeCreateRequest("labelled");
  (*labelled.mutable_job()->mutable_labels())["team"] = "red";
  ASSERT_TRUE(world.Change(labelled).ok());
  for (int64_t i = 0; i < kStateLooksMax + 1; ++i) {
    world.core->Change(scheduler::MakeCreateRequest(absl::StrCat("j", i)),
                       [](const absl::StatusOr<v1::Job>& job) { EXPECT_TRUE(job.ok()); });
  }
  world.loop.RunReady();
  const Listed listed = List(world, "labels.team = red");
  EXPECT_THAT(listed.ids, ElementsAre("labelled"));
  EXPECT_EQ(listed.pages, 2);
}

TEST(ArchiveTest, ADeletedJobIsGoneWithItsPins) {
  CoreWorld world("archive_delete");
  const std::string job = Succeeded(world, "a");
  v1::CreatePinRequest pin;
  pin.mutable_pin()->set_owner(job);
  pin.mutable_pin()->set_digest(world.store.AddBlob("t", "a checkpoint"));
  const std::string waits = world.Submit("b");
  EXPECT_TRUE(absl::IsFailedPrecondition(world.Delete(waits)));
  EXPECT_TRUE(absl::IsNotFound(world.Delete(JobName("absent"))));
  for (const bool archived : {false, true}) {
    SCOPED_TRACE(archived);
    const std::string doomed = archived ? Succeeded(world, "c") : job;
    if (archived) world.Advance(kArchiveAfter);
    pin.mutable_pin()->set_owner(doomed);
    ASSERT_TRUE(world.store.CreatePin(pin).ok());
    ASSERT_EQ(IsInState(world, doomed), !archived);
    ASSERT_TRUE(world.Delete(doomed, "once").code() ==
                (archived ? absl::StatusCode::kAlreadyExists : absl::StatusCode::kOk));
    ASSERT_TRUE(world.Delete(doomed, archived ? "twice" : "once").ok());
    EXPECT_TRUE(absl::IsNotFound(world.Get(doomed).status()));
    EXPECT_THAT(world.Events(doomed), IsEmpty());
    EXPECT_THAT(world.Points(doomed), IsEmpty());
    world.Advance(absl::Seconds(5));
    EXPECT_THAT(world.store.Pins(), Not(testing::Contains(Pair(doomed, _))));
    world.Restart();
    EXPECT_TRUE(absl::IsNotFound(world.Get(doomed).status()));
    EXPECT_TRUE(world.Delete(doomed, archived ? "twice" : "once").ok()) << "repeated";
    EXPECT_TRUE(absl::IsNotFound(world.Delete(doomed, "another")));
    EXPECT_EQ(world.Change(scheduler::MakeCreateRequest(archived ? "c" : "a")).status().code(),
              absl::StatusCode::kAlreadyExists);
  }
  EXPECT_THAT(List(world, "").ids, ElementsAre("b"));
}

TEST(ArchiveTest, PinsOfAJobThatWasDeletedWhileTheSchedulerDiedAreDroppedLater) {
  CoreWorld world("archive_pins");
  const std::string job = Succeeded(world, "a");
  world.pool.hold = true;  // The store does not hear of the deletion.
  ASSERT_TRUE(world.Delete(job).ok());
  v1::CreatePinRequest pin;
  pin.mutable_pin()->set_owner(job);
  pin.mutable_pin()->set_digest(world.store.AddBlob("t", "a checkpoint"));
  ASSERT_TRUE(world.store.CreatePin(pin).ok());
  world.pool.held.clear();
  world.pool.hold = false;
  world.Restart();
  world.Advance(absl::Seconds(5));
  EXPECT_THAT(world.store.Pins(), IsEmpty());
}

TEST(ArchiveTest, JobsAreDroppedWhenTheyAreOlderThanTheRetention) {
  CoreWorld world("archive_retention", {.job_retention = absl::Hours(1)});
  std::vector<std::string> jobs;
  for (int i = 0; i < 40; ++i) jobs.push_back(Cancelled(world, absl::StrCat("j", i)));
  const std::string waits = world.Submit("waits");
  world.Advance(absl::Minutes(30));
  const std::string young = Cancelled(world, "young");
  world.Advance(absl::Minutes(29));
  EXPECT_THAT(List(world, "").ids, SizeIs(42));
  world.Advance(absl::Minutes(1));
  for (int i = 0; i < 4; ++i) world.Advance(absl::Seconds(1));
  EXPECT_THAT(List(world, "").ids, ElementsAre("young", "waits"));
  for (const std::string& job : jobs) EXPECT_THAT(world.Events(job), IsEmpty());
  EXPECT_TRUE(world.Get(waits).ok());
}

TEST(ArchiveTest, WithoutARetentionNothingIsDropped) {
  CoreWorld world("archive_no_retention");
  Cancelled(world, "a");
  world.Advance(absl::Hours(24));
  EXPECT_THAT(List(world, "").ids, ElementsAre("a"));
}

}  // namespace
}  // namespace deltaworks::services
