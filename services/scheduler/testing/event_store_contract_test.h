// What every EventStore must do. An implementation's test includes this and instantiates:
//
//   INSTANTIATE_TEST_SUITE_P(Sqlite, EventStoreContractTest, ::testing::Values(&MakeSqlite));
//   INSTANTIATE_TEST_SUITE_P(Sqlite, ArchiveContractTest, ::testing::Values(&MakeSqlite));

#ifndef DELTAWORKS_SERVICES_SCHEDULER_TESTING_EVENT_STORE_CONTRACT_TEST_H_
#define DELTAWORKS_SERVICES_SCHEDULER_TESTING_EVENT_STORE_CONTRACT_TEST_H_

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/event_store.h"

namespace deltaworks::services {

// Opens the store again and again in the same place; `fresh` empties it first. It keeps the newest
// kContractEventsKept events of a job and packs at most kContractPackedPoints points in a row.
using EventStoreMaker = std::unique_ptr<EventStore> (*)(bool fresh);
inline constexpr int64_t kContractEventsKept = 1000;
inline constexpr int64_t kContractPackedPoints = 64;

class EventStoreContractTest : public ::testing::TestWithParam<EventStoreMaker> {
 protected:
  EventStoreContractTest() : store_(GetParam()(/*fresh=*/true)) {
    EXPECT_TRUE(store_->Load().ok());
  }

  void Reopen() {
    store_.reset();
    store_ = GetParam()(/*fresh=*/false);
  }

  // A job that was submitted, ran on a worker and reported `steps` steps, a second apart.
  std::string Run(const std::string& id, int64_t steps) {
    EXPECT_TRUE(h_.Sync(&worker_).ok());
    const std::string job = h_.Submit(id);
    EXPECT_TRUE(h_.Sync(&worker_).ok());
    held_ = worker_.answer.assignments(0);
    for (int64_t step = 1; step <= steps; ++step) {
      h_.Advance(absl::Seconds(1));
      auto report = scheduler::Harness::Report(held_, v1::AttemptReport::TRAINING, step);
      report.set_first_metric_n(step);
      *report.add_metrics() = scheduler::MakePoint(step, 1.0 / static_cast<double>(step));
      EXPECT_TRUE(h_.Sync(&worker_, {report}).ok());
    }
    return job;
  }

  // Stores what the harness decided and the store does not have yet.
  absl::Status Store() {
    bool is_known = false;
    const auto news = absl::MakeConstSpan(h_.log).subspan(stored_);
    const absl::Status status = store_->Append(static_cast<int64_t>(stored_) + 1, news, &is_known);
    if (status.ok()) stored_ = h_.log.size();
    return status;
  }

  // The state that the store gives, as bytes.
  std::string LoadedBytes() {
    auto stored = store_->Load();
    EXPECT_TRUE(stored.ok()) << stored.status();
    auto state = scheduler::State::FromSnapshot(stored->snapshot, h_.options);
    EXPECT_TRUE(state.ok()) << state.status();
    for (const scheduler::Event& event : stored->events) {
      const absl::Status folded = (*state)->Fold(event);
      EXPECT_TRUE(folded.ok()) << folded;
    }
    return scheduler::DeterministicBytes((*state)->ToSnapshot());
  }

  std::vector<int64_t> Seqs(const std::string& job, int64_t since, const ReadLimits& limits = {}) {
    const auto events = store_->ReadEvents(job, since, limits);
    EXPECT_TRUE(events.ok()) << events.status();
    std::vector<int64_t> seqs;
    for (const v1::JobEvent& event : *events) seqs.push_back(event.seq());
    return seqs;
  }
  std::vector<int64_t> Steps(const std::string& job, int64_t since, const ReadLimits& limits = {}) {
    const auto points = store_->ReadMetrics(job, since, limits);
    EXPECT_TRUE(points.ok()) << points.status();
    std::vector<int64_t> steps;
    for (const v1::MetricPoint& point : *points) steps.push_back(point.step());
    return steps;
  }
  static std::vector<int64_t> Range(int64_t first, int64_t last) {
    std::vector<int64_t> range;
    for (int64_t i = first; i <= last; ++i) range.push_back(i);
    return range;
  }

  scheduler::Harness h_;
  scheduler::FakeWorker worker_{"w"};
  v1::Assignment held_;
  std::unique_ptr<EventStore> store_;
  size_t stored_ = 0;  // Of h_.log.
};

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

TEST_P(EventStoreContractTest, AnEmptyStoreGivesTheStateBeforeTheFirstEvent) {
  const auto stored = store_->Load();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->snapshot.event_count(), 0);
  EXPECT_TRUE(stored->events.empty());
  EXPECT_EQ(store_->log_size(), 0);
}

TEST_P(EventStoreContractTest, WhatWasAppendedIsThereAfterAReopen) {
  Run("a", 3);
  ASSERT_TRUE(Store().ok());
  EXPECT_EQ(store_->log_size(), static_cast<int64_t>(h_.log.size()));
  Reopen();
  EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
  EXPECT_EQ(store_->log_size(), static_cast<int64_t>(h_.log.size()));
}

TEST_P(EventStoreContractTest, ASnapshotReplacesTheLogAndGivesTheSameState) {
  v1::CreateJobRequest request = scheduler::MakeCreateRequest("b");
  request.set_request_id("once");
  Run("a", 3);
  ASSERT_TRUE(h_.Execute(request).ok());
  h_.Tick();
  ASSERT_TRUE(Store().ok());
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  EXPECT_EQ(store_->log_size(), 0);
  EXPECT_EQ(LoadedBytes(), h_.LiveBytes());

  // And again, with changed, unchanged and new records.
  ASSERT_TRUE(h_.Pause(scheduler::JobName("a")).ok());
  h_.Submit("c");
  ASSERT_TRUE(Store().ok());
  Reopen();
  EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  Reopen();
  EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
  EXPECT_EQ(store_->log_size(), 0);
}

TEST_P(EventStoreContractTest, UsageQuotasAndModesOfWorkersAreStored) {
  v1::SetQuotaRequest quota;
  quota.mutable_quota()->set_name("tenants/t/quota");
  quota.mutable_quota()->set_limit_devices(3);
  v1::SetWorkerModeRequest mode;
  mode.set_worker(worker_.name);
  mode.set_mode(v1::WORKER_CORDONED);
  const auto use = [&](int64_t device_ms, int64_t step) {
    h_.Advance(absl::Seconds(5));
    auto report = scheduler::Harness::Report(held_, v1::AttemptReport::TRAINING, 5);
    report.set_device_ms(device_ms);
    report.mutable_checkpoint()->set_step(step);
    report.mutable_checkpoint()->set_manifest_digest(scheduler::FakeDigest(step));
    report.mutable_checkpoint()->set_size_bytes(1000);
    EXPECT_TRUE(h_.Sync(&worker_, {report}).ok());
  };
  const auto expect_stored = [&] {
    h_.Commit();
    ASSERT_TRUE(Store().ok());
    EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
    ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
    Reopen();
    EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
    EXPECT_EQ(store_->log_size(), 0);
  };
  Run("a", 3);
  ASSERT_TRUE(h_.Execute(quota).ok());
  ASSERT_TRUE(h_.Execute(mode).ok());
  use(10, 10);
  ASSERT_EQ(h_.Record(scheduler::JobName("a")).job().status().device_ms(), 10);
  expect_stored();
  // And again, changed.
  quota.mutable_quota()->clear_limit_devices();
  ASSERT_TRUE(h_.Execute(quota).ok());
  mode.set_mode(v1::WORKER_ACTIVE);
  ASSERT_TRUE(h_.Execute(mode).ok());
  use(20, 20);
  expect_stored();
  // A checkpoint alone.
  use(20, 21);
  expect_stored();
  const scheduler::Usage::Amount used = h_.scheduler->state()->usage().Days("t")->begin()->second;
  EXPECT_EQ(used.device_ms, 20);
  EXPECT_EQ(used.written_bytes, 3000);
}

TEST_P(EventStoreContractTest, TroublesAndQuarantineAreKeptInTheLogAndInTheState) {
  const auto expect_stored = [&] {
    h_.Commit();
    ASSERT_TRUE(Store().ok());
    EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
    ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
    Reopen();
    EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
  };
  for (const char* id : {"a", "b", "c"}) {
    Run(id, 1);
    h_.Advance(absl::Seconds(1));
    ++worker_.incarnation;
    worker_.report_number = 0;
    worker_.draining = true;
    ASSERT_TRUE(h_.Sync(&worker_).ok());
    ASSERT_TRUE(h_.Cancel(scheduler::JobName(id)).ok());
    worker_.draining = false;
    ASSERT_TRUE(h_.Sync(&worker_).ok());
    expect_stored();
  }
  ASSERT_EQ(h_.scheduler->state()->WorkerMode(worker_.name), v1::WORKER_QUARANTINED);
  h_.Advance(h_.options.quarantine_first);
  ASSERT_EQ(h_.scheduler->state()->WorkerMode(worker_.name), v1::WORKER_ACTIVE);
  expect_stored();
  Run("d", 1);
  auto report = scheduler::Harness::Report(held_, v1::AttemptReport::TRAINING, 5);
  report.mutable_checkpoint()->set_step(5);
  report.mutable_checkpoint()->set_manifest_digest(scheduler::FakeDigest(5));
  ASSERT_TRUE(h_.Sync(&worker_, {report}).ok());
  ASSERT_TRUE(h_.scheduler->state()->troubles().all().empty());
  expect_stored();
}

TEST_P(EventStoreContractTest, AnAppendThatFailsStoresNothingOfItsEvents) {
  Run("a", 1);
  ASSERT_TRUE(Store().ok());
  h_.Submit("b");
  std::vector<scheduler::Event> events(h_.log.begin() + stored_, h_.log.end());
  const std::string before = LoadedBytes();
  events.push_back(h_.log.front());
  events.back().set_job(events.front().job());
  *events.back().mutable_shown() = events.front().shown();  // A seq that is there already.
  bool is_known = false;
  EXPECT_FALSE(store_->Append(static_cast<int64_t>(stored_) + 1, events, &is_known).ok());
  EXPECT_TRUE(is_known);
  EXPECT_EQ(LoadedBytes(), before);
  EXPECT_THAT(Seqs(scheduler::JobName("b"), 0), IsEmpty());
  EXPECT_TRUE(Store().ok());
  EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
}

TEST_P(EventStoreContractTest, EventsAreReadInOrderFromAnySeqWithinBounds) {
  const std::string job = Run("a", 2);
  h_.Submit("b");
  ASSERT_TRUE(Store().ok());
  const int64_t last = h_.Record(job).job().status().last_event_seq();
  ASSERT_GE(last, 4);
  EXPECT_THAT(Seqs(job, 0), ElementsAreArray(Range(1, last)));
  EXPECT_THAT(Seqs(job, 2), ElementsAreArray(Range(3, last)));
  EXPECT_THAT(Seqs(job, 1, {.count_max = 2}), ElementsAre(2, 3));
  EXPECT_THAT(Seqs(job, 1, {.bytes_max = 1}), ElementsAre(2));
  EXPECT_THAT(Seqs(job, last), IsEmpty());
  EXPECT_EQ(*store_->OldestEvent(job), 1);
  EXPECT_EQ(*store_->OldestEvent("tenants/t/jobs/none"), 0);
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  EXPECT_THAT(Seqs(job, 0), ElementsAreArray(Range(1, last)));
}

TEST_P(EventStoreContractTest, OfManyEventsTheNewestAreKept) {
  const std::string job = Run("a", 0);
  for (int i = 0; i < 1500; ++i) {
    ASSERT_TRUE(h_.Pause(job).ok());
    ASSERT_TRUE(
        h_.Sync(&worker_, {scheduler::Harness::Report(held_, v1::AttemptReport::LEFT, 0)}).ok());
    ASSERT_TRUE(h_.Resume(job).ok());
    ASSERT_TRUE(h_.Sync(&worker_).ok());
    ASSERT_EQ(worker_.answer.assignments_size(), 1);
    held_ = worker_.answer.assignments(0);
    if (h_.Record(job).job().status().last_event_seq() > 3 * kContractEventsKept) break;
  }
  ASSERT_TRUE(Store().ok());
  const int64_t last = h_.Record(job).job().status().last_event_seq();
  ASSERT_GT(last, 3 * kContractEventsKept);
  const int64_t oldest = *store_->OldestEvent(job);
  EXPECT_LE(oldest, last - kContractEventsKept + 1);
  EXPECT_GT(oldest, last - 2 * kContractEventsKept);
  EXPECT_THAT(Seqs(job, oldest - 1, {.count_max = 1 << 20, .bytes_max = 1 << 30}),
              ElementsAreArray(Range(oldest, last)));
}

TEST_P(EventStoreContractTest, MetricsAreTheSameBeforeAndAfterTheyArePacked) {
  constexpr int64_t kSteps = 100;  // More than one packed row.
  const std::string job = Run("a", kSteps);
  ASSERT_TRUE(Store().ok());
  for (const bool packed : {false, true}) {
    SCOPED_TRACE(packed);
    EXPECT_THAT(Steps(job, 0), ElementsAreArray(Range(1, kSteps)));
    for (const int64_t since : {1, 50, 63, 64, 65, 99}) {
      EXPECT_THAT(Steps(job, since), ElementsAreArray(Range(since + 1, kSteps))) << since;
      EXPECT_THAT(Steps(job, since, {.count_max = 1}), ElementsAre(since + 1)) << since;
    }
    EXPECT_THAT(Steps(job, kSteps), IsEmpty());
    EXPECT_THAT(Steps(job, 10, {.count_max = 80}), ElementsAreArray(Range(11, 90)));
    EXPECT_THAT(Steps(job, 10, {.bytes_max = 1}), ElementsAre(11));
    EXPECT_EQ(*store_->IndexBeforeStep(job, 0), 0);
    EXPECT_EQ(*store_->IndexBeforeStep(job, 1), 0);
    EXPECT_EQ(*store_->IndexBeforeStep(job, 65), 64);
    EXPECT_EQ(*store_->IndexBeforeStep(job, 100), 99);
    EXPECT_EQ(*store_->IndexBeforeStep(job, 1000), 100);
    ASSERT_TRUE(h_.Cancel(job).ok());
    (void)h_.Sync(&worker_, {scheduler::Harness::Report(held_, v1::AttemptReport::LEFT, kSteps)});
    ASSERT_EQ(h_.StateOfJob(job), v1::CANCELLED);
    ASSERT_TRUE(Store().ok());
  }
  EXPECT_THAT(Steps("tenants/t/jobs/none", 0), IsEmpty());
}

class ArchiveContractTest : public EventStoreContractTest {
 protected:
  // A job that was created at the present second, and cancelled.
  std::string Ended(const std::string& id, const std::string& label = "") {
    v1::CreateJobRequest request = scheduler::MakeCreateRequest(id);
    request.set_request_id("create-" + id);
    if (!label.empty()) (*request.mutable_job()->mutable_labels())["team"] = label;
    const std::string job = h_.Submit(request);
    EXPECT_TRUE(h_.Cancel(job).ok());
    return job;
  }
  void Archive() { h_.Advance(h_.options.archive_after); }
  void Delete(const std::string& job, const std::string& request_id) {
    v1::DeleteJobRequest request;
    request.set_name(job);
    request.set_request_id(request_id);
    EXPECT_TRUE(h_.Execute(request).ok());
    h_.Commit();
  }

  // Ids of all pages of `count` jobs.
  std::vector<std::string> List(const JobTerm& term, bool newest_first, int64_t count,
                                const std::string& tenant = "t") {
    std::vector<std::string> ids;
    ArchiveQuery query{
        .tenant = tenant, .term = term, .newest_first = newest_first, .count_max = count};
    for (bool is_last = false; !is_last;) {
      const auto page = store_->ListArchived(query);
      EXPECT_TRUE(page.ok()) << page.status();
      for (const auto& record : *page) ids.push_back(record->job().name().substr(15));
      is_last = static_cast<int64_t>(page->size()) < count;
      if (!page->empty()) query.after = JobKey::Of(*page->back());
    }
    return ids;
  }
};

TEST_P(ArchiveContractTest, AnArchivedJobLeavesTheStateAndIsFoundAsItWas) {
  const std::string job = Run("a", 3);
  ASSERT_TRUE(h_.Cancel(job).ok());
  (void)h_.Sync(&worker_, {scheduler::Harness::Report(held_, v1::AttemptReport::LEFT, 3)});
  ASSERT_EQ(h_.StateOfJob(job), v1::CANCELLED);
  const std::string before = scheduler::DeterministicBytes(h_.Record(job));
  const int64_t events = h_.Record(job).job().status().last_event_seq();
  ASSERT_TRUE(Store().ok());
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  EXPECT_FALSE(store_->FindArchived(job)->has_value());
  Archive();
  ASSERT_TRUE(Store().ok());
  for (const char* what : {"in the log", "in the log, opened again", "after a snapshot"}) {
    SCOPED_TRACE(what);
    EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
    const auto archived = store_->FindArchived(job);
    ASSERT_TRUE(archived.ok() && archived->has_value() && (*archived)->record != nullptr);
    EXPECT_EQ(scheduler::DeterministicBytes(*(*archived)->record), before);
    EXPECT_THAT(Seqs(job, 0), ElementsAreArray(Range(1, events)));
    EXPECT_THAT(Steps(job, 0), ElementsAreArray(Range(1, 3)));
    if (store_->log_size() > 0) Reopen();
    if (std::string(what) == "in the log, opened again") {
      EXPECT_TRUE(store_->Load().ok());
      ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
    }
  }
  const auto stored = store_->Load();
  EXPECT_EQ(stored->snapshot.jobs_size(), 0);
}

TEST_P(ArchiveContractTest, RequestsGoWithTheirJobAndOutliveItForAWeek) {
  const std::string job = Ended("a");
  ASSERT_TRUE(Store().ok());
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  EXPECT_FALSE(store_->FindArchivedRequest("t", "CreateJob", "create-a")->has_value());
  Archive();
  Delete(job, "delete");
  ASSERT_TRUE(Store().ok());
  const auto find = [&](const char* rpc, const char* id) {
    const auto found = store_->FindArchivedRequest("t", rpc, id);
    EXPECT_TRUE(found.ok()) << found.status();
    return found->has_value();
  };
  EXPECT_EQ(store_->FindArchivedRequest("t", "CreateJob", "create-a")->value().job(), job);
  EXPECT_TRUE(find("DeleteJob", "delete"));
  EXPECT_FALSE(find("DeleteJob", "create-a"));
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
  EXPECT_EQ(store_->Load()->snapshot.requests_size(), 0);
  EXPECT_TRUE(find("CreateJob", "create-a"));

  // Dropped with the first snapshot after a week.
  h_.Advance(kRequestsKept + absl::Seconds(1));
  h_.Submit("b");
  ASSERT_TRUE(Store().ok());
  ASSERT_TRUE(store_->WriteSnapshot(*h_.scheduler->state()).ok());
  EXPECT_FALSE(find("CreateJob", "create-a"));
  EXPECT_FALSE(find("DeleteJob", "delete"));
  EXPECT_TRUE(store_->FindArchived(job)->has_value()) << "its name is known";
}

TEST_P(ArchiveContractTest, NothingIsLeftOfADeletedJobButItsName) {
  const std::string job = Ended("a", "red");
  const std::string kept = Ended("b", "red");
  Archive();
  ASSERT_TRUE(Store().ok());
  EXPECT_THAT(Seqs(job, 0), ::testing::Not(IsEmpty()));
  EXPECT_THAT(List({"labels.team", "red"}, true, 10), ElementsAre("b", "a"));
  Delete(job, "delete");
  ASSERT_TRUE(Store().ok());
  for (const bool reopened : {false, true}) {
    SCOPED_TRACE(reopened);
    const auto archived = store_->FindArchived(job);
    ASSERT_TRUE(archived.ok() && archived->has_value());
    EXPECT_EQ((*archived)->record, nullptr);
    EXPECT_THAT(Seqs(job, 0), IsEmpty());
    EXPECT_THAT(Steps(job, 0), IsEmpty());
    EXPECT_THAT(List({"labels.team", "red"}, true, 10), ElementsAre("b"));
    EXPECT_THAT(List({}, true, 10), ElementsAre("b"));
    EXPECT_THAT(*store_->EndedBefore(h_.now, 10), ElementsAre(kept));
    EXPECT_EQ(LoadedBytes(), h_.LiveBytes());
    Reopen();
  }
}

TEST_P(ArchiveContractTest, PagesOfEveryTermGiveEveryJobOnceInEitherOrder) {
  for (const char* id : {"c", "a", "b", "d", "e"}) {
    Ended(id, *id < 'c' ? "red" : "blue");
    if (*id != 'a') h_.Advance(absl::Seconds(1));  // a and b at the same time.
  }
  h_.Submit("waits");
  Archive();
  ASSERT_TRUE(Store().ok());
  for (const int64_t count : {1, 2, 3, 10}) {
    SCOPED_TRACE(count);
    EXPECT_THAT(List({}, true, count), ElementsAre("e", "d", "b", "a", "c"));
    EXPECT_THAT(List({}, false, count), ElementsAre("c", "a", "b", "d", "e"));
    EXPECT_THAT(List({"labels.team", "red"}, true, count), ElementsAre("b", "a"));
    EXPECT_THAT(List({"labels.team", "blue"}, false, count), ElementsAre("c", "d", "e"));
  }
  for (const JobTerm& term :
       {JobTerm{"state", "CANCELLED"}, JobTerm{"train.base_model", "tenants/t/baseModels/base"},
        JobTerm{"train.dataset", "tenants/t/datasets/data"}}) {
    EXPECT_EQ(List(term, true, 10).size(), 5U) << term.field;
  }
  EXPECT_THAT(List({"state", "FAILED"}, true, 10), IsEmpty());
  EXPECT_THAT(List({}, true, 10, "u"), IsEmpty());
}

TEST_P(ArchiveContractTest, TheOldestEndedAreNamedFirst) {
  const std::string first = Ended("b");
  h_.Advance(absl::Seconds(10));
  const std::string second = Ended("a");
  Archive();
  ASSERT_TRUE(Store().ok());
  const absl::Time ended = h_.now - h_.options.archive_after;
  EXPECT_THAT(*store_->EndedBefore(ended, 10), ElementsAre(first));
  EXPECT_THAT(*store_->EndedBefore(ended + absl::Seconds(1), 10), ElementsAre(first, second));
  EXPECT_THAT(*store_->EndedBefore(ended + absl::Seconds(1), 1), ElementsAre(first));
  EXPECT_THAT(*store_->EndedBefore(ended - absl::Seconds(10), 10), IsEmpty());
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_TESTING_EVENT_STORE_CONTRACT_TEST_H_
