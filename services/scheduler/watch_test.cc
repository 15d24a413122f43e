// Watches: nothing missed, nothing repeated, however often and wherever a stream is cut.

#include "services/scheduler/watch.h"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/job_state.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::deltaworks::scheduler::MakeCreateRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// What a client has of one stream.
template <typename Response>
struct Stream {
  std::deque<Response> responses;  // Not taken yet; at most one.
  std::optional<absl::Status> end;
};

template <typename Response>
class StreamSink final : public WatchSink<Response> {
 public:
  explicit StreamSink(std::shared_ptr<Stream<Response>> stream) : stream_(std::move(stream)) {}
  void Send(Response response) override {
    EXPECT_TRUE(stream_->responses.empty()) << "sent before the one before was taken";
    EXPECT_FALSE(stream_->end.has_value());
    stream_->responses.push_back(std::move(response));
  }
  void End(absl::Status status) override {
    EXPECT_FALSE(stream_->end.has_value()) << "ended twice";
    stream_->end = std::move(status);
  }

 private:
  const std::shared_ptr<Stream<Response>> stream_;
};

// A client of WatchJob that remembers the last numbers it saw, and checks each against them.
class JobWatcher {
 public:
  JobWatcher(CoreWorld& world, const std::string& job) : world_(world) { request_.set_name(job); }

  void Connect() {
    stream_ = std::make_shared<Stream<v1::WatchJobResponse>>();
    id_ = world_.core->NewId();
    world_.core->WatchJob(id_, request_,
                          std::make_unique<StreamSink<v1::WatchJobResponse>>(stream_));
    world_.loop.RunReady();
  }
  void Cut() {
    world_.core->DropWatch(id_);
    world_.loop.RunReady();
  }
  // Takes at most `count` responses. Returns how many there were.
  int TakeSome(int count = 1 << 20) {
    int taken = 0;
    while (taken < count && !stream_->responses.empty()) {
      Look(stream_->responses.front());
      stream_->responses.pop_front();
      ++taken;
      world_.core->WatchTaken(id_);
      world_.loop.RunReady();
    }
    return taken;
  }

  int64_t seq() const { return request_.since_seq(); }
  int64_t metric() const { return request_.since_metric(); }
  const std::optional<absl::Status>& end() const { return stream_->end; }
  const v1::Job& job() const { return job_; }
  v1::WatchJobRequest& request() { return request_; }

 private:
  void Look(const v1::WatchJobResponse& response) {
    EXPECT_LE(response.events_size(), 1000);
    EXPECT_LE(response.metrics_size(), 1000);
    for (const v1::JobEvent& event : response.events()) {
      EXPECT_EQ(event.seq(), request_.since_seq() + 1);
      request_.set_since_seq(event.seq());
    }
    if (response.metrics_size() > 0) {
      EXPECT_EQ(response.first_metric(), request_.since_metric() + 1);
    }
    for (const v1::MetricPoint& point : response.metrics()) {
      request_.set_since_metric(request_.since_metric() + 1);
      EXPECT_EQ(point.step(), request_.since_metric());  // The scripted worker begins at step 1.
    }
    job_ = response.job();
  }

  CoreWorld& world_;
  v1::WatchJobRequest request_;
  int64_t id_ = 0;
  std::shared_ptr<Stream<v1::WatchJobResponse>> stream_;
  v1::Job job_;
};

// Two events each time, all in one commit.
void PauseAndResume(CoreWorld& world, const std::string& job, int times) {
  v1::PauseJobRequest pause;
  pause.set_name(job);
  v1::ResumeJobRequest resume;
  resume.set_name(job);
  for (int i = 0; i < times; ++i) {
    world.core->Change(pause, [](const auto& answer) { EXPECT_TRUE(answer.ok()); });
    world.core->Change(resume, [](const auto& answer) { EXPECT_TRUE(answer.ok()); });
  }
  world.loop.RunReady();
}

TEST(WatchJobTest, AWatchShowsTheJobThenEveryChangeAndEndsAfterTheLast) {
  CoreWorld world("watch_whole");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  JobWatcher watcher(world, job);
  watcher.Connect();
  EXPECT_EQ(watcher.TakeSome(), 1);
  EXPECT_EQ(watcher.job().status().state(), v1::QUEUED);
  EXPECT_EQ(watcher.TakeSome(), 0);
  world.Sync(worker);
  world.Sync(worker);
  EXPECT_GE(watcher.TakeSome(), 1);
  EXPECT_EQ(watcher.job().status().state(), v1::RUNNING);
  while (!worker.idle()) {
    worker.Train(10);
    world.Advance(absl::Seconds(1));
    world.Sync(worker);
    watcher.TakeSome();
  }
  EXPECT_EQ(watcher.end(), absl::OkStatus());
  EXPECT_EQ(watcher.job().status().state(), v1::SUCCEEDED);
  EXPECT_EQ(watcher.seq(), watcher.job().status().last_event_seq());
  EXPECT_EQ(watcher.metric(), kScriptedSteps);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_watches"), 0);

  // Once more, when all is over: everything at once, then the end.
  JobWatcher late(world, job);
  late.Connect();
  late.TakeSome();
  EXPECT_EQ(late.end(), absl::OkStatus());
  EXPECT_EQ(late.seq(), watcher.seq());
  EXPECT_EQ(late.metric(), kScriptedSteps);
}

TEST(WatchJobTest, AWatchCutAHundredTimesMissesAndRepeatsNoSeqAndNoMetric) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    CoreWorld world("watch_cut");
    ScriptedWorker worker("w");
    const std::string job = world.Submit("a");
    JobWatcher watcher(world, job);
    watcher.Connect();
    int cuts = 0;
    while (cuts < 100 || !scheduler::IsFinal(world.StateOf(job))) {
      if (random() % 2 == 0) world.Sync(worker);
      if (random() % 2 == 0) worker.Train(static_cast<int64_t>(random() % 3));
      if (random() % 2 == 0) world.Advance(absl::Milliseconds(random() % 1500));
      if (random() % 30 == 0) world.events->FailAppends(FaultyEventStore::Fault::kStored);
      if (random() % 30 == 0) world.events->FailAppends(FaultyEventStore::Fault::kLost);
      watcher.TakeSome(static_cast<int>(random() % 3));
      if (random() % 2 == 0) continue;
      if (random() % 10 == 0) {
        world.Restart();
      } else {
        watcher.Cut();
      }
      ++cuts;
      watcher.Connect();
    }
    watcher.TakeSome();
    EXPECT_EQ(watcher.end(), absl::OkStatus());
    EXPECT_EQ(watcher.seq(), world.Get(job)->status().last_event_seq());
    EXPECT_EQ(watcher.metric(), kScriptedSteps);
  }
}

TEST(WatchJobTest, OnlyWhatIsNewIsReadFromTheDisk) {
  CoreWorld world("watch_reads");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  JobWatcher watcher(world, job);
  watcher.Connect();
  // Taken, and nothing is new.
  int64_t reads = world.events->reads();
  watcher.TakeSome();
  EXPECT_EQ(world.events->reads(), reads);
  // Of another job, and time.
  world.Submit("b");
  world.Advance(absl::Seconds(3));
  EXPECT_EQ(world.events->reads(), reads);
  // An event and no point: the oldest event that is kept, and the events.
  ASSERT_TRUE(world.Pause(job).ok());
  watcher.TakeSome();
  EXPECT_EQ(world.events->reads(), reads + 2);
  ASSERT_TRUE(world.Resume(job).ok());
  world.Sync(worker);
  world.Sync(worker);
  worker.Train(1);
  world.Sync(worker);
  world.Advance(absl::Seconds(1));
  watcher.TakeSome();
  // Points and no event.
  const int64_t seq = watcher.seq();
  reads = world.events->reads();
  worker.Train(1);
  v1::SyncRequest report = worker.NextReport();
  report.mutable_attempts(0)->clear_logs();
  world.core->ReceiveSync(world.core->NewId(), report, [](const auto&) {});
  world.loop.RunReady();
  watcher.TakeSome();
  EXPECT_EQ(watcher.metric(), 2);
  EXPECT_EQ(watcher.seq(), seq);
  EXPECT_EQ(world.events->reads(), reads + 2);
}

TEST(WatchJobTest, WhatIsNotThereOrNotKeptIsNamed) {
  SqliteEventStore::Options events;
  events.events_kept = 10;
  CoreWorld world("watch_range", {}, events);
  JobWatcher absent(world, JobName("none"));
  absent.Connect();
  EXPECT_EQ(*absent.end(), absl::NotFoundError("tenants/t/jobs/none does not exist"));

  const std::string job = world.Submit("a");
  JobWatcher future(world, job);
  future.request().set_since_seq(99);
  future.Connect();
  EXPECT_TRUE(absl::IsOutOfRange(*future.end()));
  future.request().set_since_seq(0);
  future.request().set_since_metric(1);
  future.Connect();
  EXPECT_TRUE(absl::IsOutOfRange(*future.end()));

  PauseAndResume(world, job, 300);
  JobWatcher past(world, job);
  past.request().set_since_seq(1);
  past.Connect();
  EXPECT_TRUE(absl::IsOutOfRange(*past.end())) << *past.end();
  const int64_t oldest = *world.events->OldestEvent(job);
  ASSERT_GT(oldest, 1);
  EXPECT_THAT(std::string(past.end()->message()), HasSubstr(absl::StrCat("is ", oldest)));
  past.request().set_since_seq(oldest - 1);
  past.Connect();
  past.TakeSome();
  EXPECT_FALSE(past.end().has_value());
  EXPECT_EQ(past.seq(), world.Get(job)->status().last_event_seq());
}

TEST(WatchJobTest, AWatcherThatFallsTooFarBehindIsCutOffAndReconnectsWithoutLoss) {
  SchedulerCore::Options options;
  options.watches.lag_max = 20;
  CoreWorld world("watch_slow", options);
  const std::string job = world.Submit("a");
  JobWatcher slow(world, job);
  JobWatcher quick(world, job);
  slow.Connect();
  quick.Connect();
  slow.TakeSome();
  quick.TakeSome();
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(world.Pause(job).ok());
    ASSERT_TRUE(world.Resume(job).ok());
    quick.TakeSome();
  }
  ASSERT_TRUE(slow.end().has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(*slow.end())) << *slow.end();
  EXPECT_FALSE(quick.end().has_value());
  EXPECT_EQ(world.Metric("deltaworks_scheduler_watches_cut_off_total"), 1);
  slow.TakeSome();
  slow.Connect();
  slow.TakeSome();
  EXPECT_EQ(slow.seq(), quick.seq());
}

TEST(WatchJobTest, ALongHistoryComesInSeveralResponses) {
  CoreWorld world("watch_long");
  const std::string job = world.Submit("a");
  PauseAndResume(world, job, 700);
  JobWatcher watcher(world, job);
  watcher.Connect();
  EXPECT_EQ(watcher.TakeSome(), 2);
  EXPECT_EQ(watcher.seq(), world.Get(job)->status().last_event_seq());
}

TEST(WatchJobTest, StoppingEndsWatchesAndTheBoundRefusesMore) {
  SchedulerCore::Options options;
  options.watches.watches_max = 1;
  CoreWorld world("watch_stop", options);
  const std::string job = world.Submit("a");
  JobWatcher first(world, job);
  first.Connect();
  JobWatcher second(world, job);
  second.Connect();
  EXPECT_TRUE(absl::IsResourceExhausted(*second.end()));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_refused_total{limit=\"watches\"}"), 1);
  world.core->Stop();
  EXPECT_TRUE(absl::IsUnavailable(*first.end()));
  first.Connect();
  EXPECT_TRUE(absl::IsUnavailable(*first.end()));
}

// A client of WatchJobs: the latest of every job that was sent.
class ListWatcher {
 public:
  ListWatcher(CoreWorld& world, const std::string& filter, const std::string& parent = "tenants/t")
      : world_(world) {
    request_.set_parent(parent);
    request_.set_filter(filter);
  }

  void Connect() {
    stream_ = std::make_shared<Stream<v1::WatchJobsResponse>>();
    id_ = world_.core->NewId();
    world_.core->WatchJobs(id_, request_,
                           std::make_unique<StreamSink<v1::WatchJobsResponse>>(stream_));
    world_.loop.RunReady();
  }
  void Cut() { world_.core->DropWatch(id_); }
  // The ids and states sent, in order.
  std::vector<std::string> TakeSome(int count = 1 << 20) {
    std::vector<std::string> sent;
    for (; count > 0 && !stream_->responses.empty(); --count) {
      for (const v1::Job& job : stream_->responses.front().jobs()) {
        sent.push_back(absl::StrCat(job.name().substr(job.name().rfind('/') + 1), " ",
                                    v1::JobState_Name(job.status().state())));
        latest_[job.name()] = job;
      }
      for (const std::string& name : stream_->responses.front().deleted()) {
        deleted_.push_back(name.substr(name.rfind('/') + 1));
      }
      synced_ = stream_->responses.front().synced();
      request_.set_resume_token(stream_->responses.front().resume_token());
      stream_->responses.pop_front();
      world_.core->WatchTaken(id_);
      world_.loop.RunReady();
    }
    return sent;
  }

  bool synced() const { return synced_; }
  const std::optional<absl::Status>& end() const { return stream_->end; }
  const std::map<std::string, v1::Job>& latest() const { return latest_; }
  const std::vector<std::string>& deleted() const { return deleted_; }
  v1::WatchJobsRequest& request() { return request_; }

 private:
  CoreWorld& world_;
  v1::WatchJobsRequest request_;
  int64_t id_ = 0;
  std::shared_ptr<Stream<v1::WatchJobsResponse>> stream_;
  bool synced_ = false;
  std::map<std::string, v1::Job> latest_;
  std::vector<std::string> deleted_;
};

TEST(WatchJobsTest, TheListComesFirstThenWhatChanges) {
  CoreWorld world("watch_list");
  const std::string a = world.Submit("a");
  world.Submit("b");
  ListWatcher watcher(world, "");
  watcher.Connect();
  EXPECT_THAT(watcher.TakeSome(), ElementsAre("a QUEUED", "b QUEUED"));
  EXPECT_TRUE(watcher.synced());
  EXPECT_THAT(watcher.TakeSome(), IsEmpty());
  ASSERT_TRUE(world.Pause(a).ok());
  EXPECT_THAT(watcher.TakeSome(), ElementsAre("a PAUSED"));
  world.Submit("c");
  EXPECT_THAT(watcher.TakeSome(), SizeIs(::testing::Ge(1)));
  EXPECT_EQ(watcher.latest().at(JobName("c")).status().state(), v1::QUEUED);
}

TEST(WatchJobsTest, JobsThatLeftTheStateAreListedInTheirPlaceAndDeletedOnesAreNamed) {
  CoreWorld world("watch_archive");
  std::vector<std::string> jobs;
  for (const char* id : {"d", "c", "b", "a"}) {
    jobs.push_back(world.Submit(id));
    world.Advance(absl::Seconds(1));
  }
  ASSERT_TRUE(world.Cancel(jobs[0]).ok());
  ASSERT_TRUE(world.Cancel(jobs[2]).ok());
  world.Advance(absl::Minutes(11));
  ListWatcher watcher(world, "");
  watcher.Connect();
  EXPECT_THAT(watcher.TakeSome(),
              ElementsAre("d CANCELLED", "c QUEUED", "b CANCELLED", "a QUEUED"));
  EXPECT_TRUE(watcher.synced());
  ListWatcher active(world, "state = active");
  active.Connect();
  EXPECT_THAT(active.TakeSome(), ElementsAre("c QUEUED", "a QUEUED"));

  watcher.Cut();
  ASSERT_TRUE(world.Delete(jobs[0]).ok());
  ASSERT_TRUE(world.Cancel(jobs[1]).ok());
  ASSERT_TRUE(world.Delete(jobs[1]).ok());
  watcher.Connect();  // With its token.
  EXPECT_THAT(watcher.TakeSome(), IsEmpty());
  EXPECT_THAT(watcher.deleted(), ElementsAre("d", "c"));
  JobWatcher gone(world, jobs[0]);
  gone.Connect();
  EXPECT_TRUE(absl::IsNotFound(*gone.end()));
}

TEST(WatchJobsTest, WhoIsBehindTheChangesThatAreKeptBeginsAgain) {
  CoreWorld world("watch_changes", {.watches = {.changes_max = 3}});
  const std::string a = world.Submit("a");
  const auto change = [&] {
    ASSERT_TRUE(world.Pause(a).ok());
    ASSERT_TRUE(world.Resume(a).ok());
  };
  ListWatcher away(world, "");
  away.Connect();
  EXPECT_THAT(away.TakeSome(), ElementsAre("a QUEUED"));
  away.Cut();
  ListWatcher slow(world, "");
  slow.Connect();
  for (int i = 0; i < 10; ++i) change();  // One job, one change: nothing is dropped.
  away.Connect();
  EXPECT_THAT(away.TakeSome(), ElementsAre("a QUEUED"));
  away.Cut();
  for (const char* id : {"b", "c", "d", "e"}) world.Submit(id);
  away.Connect();
  EXPECT_TRUE(absl::IsOutOfRange(*away.end()));
  slow.TakeSome();
  EXPECT_TRUE(absl::IsResourceExhausted(*slow.end()));
  away.request().clear_resume_token();
  away.Connect();
  EXPECT_THAT(away.TakeSome(), SizeIs(5));
  EXPECT_TRUE(away.synced());
}

TEST(WatchJobsTest, AnEmptyListIsToldAndAForeignTenantsJobsAreNot) {
  CoreWorld world("watch_empty");
  world.Submit("a");
  ListWatcher watcher(world, "", "tenants/other");
  watcher.Connect();
  EXPECT_THAT(watcher.TakeSome(), IsEmpty());
  EXPECT_TRUE(watcher.synced());
  world.Submit("b");
  EXPECT_THAT(watcher.TakeSome(), IsEmpty());
}

TEST(WatchJobsTest, AJobThatStopsMatchingIsSentOnceMore) {
  CoreWorld world("watch_filter");
  const std::string a = world.Submit("a");
  ListWatcher watcher(world, "state = QUEUED");
  watcher.Connect();
  EXPECT_THAT(watcher.TakeSome(), ElementsAre("a QUEUED"));
  ASSERT_TRUE(world.Pause(a).ok());
  EXPECT_THAT(watcher.TakeSome(), ElementsAre("a PAUSED"));
  ASSERT_TRUE(world.Cancel(a).ok());
  EXPECT_THAT(watcher.TakeSome(), IsEmpty());
}

TEST(WatchJobsTest, ChangesInQuickSuccessionAreMergedForASlowWatcher) {
  CoreWorld world("watch_merge");
  const std::string a = world.Submit("a");
  ListWatcher watcher(world, "");
  watcher.Connect();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(world.Pause(a).ok());
    ASSERT_TRUE(world.Resume(a).ok());
  }
  EXPECT_THAT(watcher.TakeSome(), ElementsAre("a QUEUED", "a QUEUED"));
}

TEST(WatchJobsTest, AResumeTokenGivesWhatChangedSinceAndOneOfAnotherProcessIsRefused) {
  CoreWorld world("watch_resume");
  const std::string a = world.Submit("a");
  world.Submit("b");
  ListWatcher watcher(world, "state = active");
  watcher.Connect();
  watcher.TakeSome();
  watcher.Cut();
  ASSERT_TRUE(world.Cancel(a).ok());
  watcher.Connect();
  EXPECT_THAT(watcher.TakeSome(), ElementsAre("a CANCELLED"));
  EXPECT_TRUE(watcher.synced());
  watcher.Cut();
  watcher.Connect();
  EXPECT_THAT(watcher.TakeSome(), IsEmpty());

  world.Restart();
  watcher.Connect();
  EXPECT_TRUE(absl::IsOutOfRange(*watcher.end())) << *watcher.end();
  watcher.request().set_filter("state = sleeping");
  watcher.Connect();
  EXPECT_TRUE(absl::IsInvalidArgument(*watcher.end())) << *watcher.end();
}

TEST(WatchJobsTest, AListWatchedThroughCutsIsTheListInTheEnd) {
  constexpr int kJobs = 2400;
  std::mt19937_64 random(7);
  SchedulerCore::Options options;
  options.asks.validations_max = 0;
  CoreWorld world("watch_list_cut", options);
  ListWatcher watcher(world, "state = active");
  watcher.Connect();
  for (int turn = 0; turn < 60; ++turn) {
    for (int i = 0; i < kJobs / 60; ++i) {
      world.core->Change(MakeCreateRequest(absl::StrCat("job-", turn * (kJobs / 60) + i)),
                         [](const auto& answer) { EXPECT_TRUE(answer.ok()); });
    }
    v1::CancelJobRequest cancel;
    cancel.set_name(JobName(absl::StrCat("job-", random() % ((turn + 1) * (kJobs / 60)))));
    world.core->Change(cancel, [](const auto& answer) { EXPECT_TRUE(answer.ok()); });
    world.loop.RunReady();
    watcher.TakeSome(static_cast<int>(random() % 2));
    if (random() % 4 != 0) continue;
    watcher.Cut();
    watcher.Connect();
  }
  watcher.TakeSome();
  ASSERT_GE(watcher.latest().size(), kJobs - 60);
  for (const auto& [name, job] : watcher.latest()) {
    EXPECT_EQ(job.status().state(), world.StateOf(name)) << name;
  }
  ListWatcher late(world, "");
  late.Connect();
  EXPECT_THAT(late.TakeSome(1), SizeIs(1000));
  EXPECT_FALSE(late.synced());
  EXPECT_THAT(late.TakeSome(), SizeIs(kJobs - 1000));
  EXPECT_TRUE(late.synced());
}

}  // namespace
}  // namespace deltaworks::services
