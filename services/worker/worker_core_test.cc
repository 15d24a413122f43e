// The worker's half of the protocol, over a fake clock: leases, answers out of order, checkpoints
// that the store does not take, results that arrive once, drains. Each test is one rule.

#include "services/worker/worker_core.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/worker/testing/fake_report_channel.h"

namespace deltaworks::services {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Report = v1::AttemptReport;

const AttemptKey kKey = {"tenants/t/jobs/j", 1, "attempt-1"};
constexpr absl::Duration kLease = absl::Seconds(20);

// Writes down the commands.
class FakeTrainer final : public Trainer {
 public:
  void Start(const AttemptKey& key, const v1::TrainTask&) override { Note("start", key); }
  void TakeCheckpoint(const AttemptKey& key) override { Note("checkpoint", key); }
  void Park(const AttemptKey& key) override { Note("park", key); }
  void Resume(const AttemptKey& key) override { Note("resume", key); }
  void Leave(const AttemptKey& key) override { Note("leave", key); }
  void Stop(const AttemptKey& key) override { Note("stop", key); }
  void Verify(const AttemptKey& key, std::string model, std::string) override {
    Note("verify", key);
    verified = std::move(model);
  }
  void Forget(const AttemptKey& key) override { Note("forget", key); }

  int Count(const std::string& command) const {
    return static_cast<int>(std::count(commands.begin(), commands.end(), command));
  }
  std::vector<std::string> commands;
  std::string verified;

 private:
  void Note(const std::string& command, const AttemptKey& key) {
    commands.push_back(key == kKey ? command : absl::StrCat(command, " ", key.attempt_id));
  }
};

class FakePublisher final : public Publisher {
 public:
  void Publish(const std::string&, std::shared_ptr<const Artifact> artifact, Done done) override {
    published.push_back(artifact);
    publish_done = std::move(done);
  }
  void ReadBack(const std::string&, std::shared_ptr<const Artifact>, ReadDone done) override {
    read_done = std::move(done);
  }
  void Finish(absl::Status status) {
    ASSERT_TRUE(publish_done != nullptr);
    auto done = std::move(publish_done);
    publish_done = nullptr;
    done(std::move(status));
  }
  std::vector<std::shared_ptr<const Artifact>> published;
  Done publish_done;
  ReadDone read_done;
};

std::shared_ptr<const Artifact> ArtifactAt(int64_t step) {
  Artifact artifact;
  artifact.step = step;
  artifact.manifest_digest = absl::StrCat("digest-", step);
  artifact.size_bytes = 100;
  return std::make_shared<const Artifact>(std::move(artifact));
}

v1::MetricPoint PointAt(int64_t step) {
  v1::MetricPoint point;
  point.set_step(step);
  return point;
}

class WorkerCoreTest : public ::testing::Test {
 protected:
  WorkerCoreTest() { Begin({}); }

  // A worker's process, instead of the one before.
  void Begin(WorkerCore::Options options) {
    if (core_ != nullptr) {
      core_->Stop();
      loop_.RunReady();
    }
    options.worker = "workers/w";
    options.incarnation = 3;
    core_ = std::make_unique<WorkerCore>(
        std::move(options), clock_, loop_, channel_, trainer_, publisher_, metrics_,
        [this](absl::Status status) { fatal_ = std::move(status); });
    core_->Start();
    loop_.RunReady();
  }

  // An answer that names kKey.
  v1::SyncResponse Says(v1::Assignment::Desired desired) {
    v1::SyncResponse answer = SaysNothing();
    v1::Assignment& assignment = *answer.add_assignments();
    assignment.set_job(kKey.job);
    assignment.set_lease_epoch(kKey.lease_epoch);
    assignment.set_attempt_id(kKey.attempt_id);
    assignment.set_desired(desired);
    assignment.set_committed_step(committed_step_);
    assignment.set_metrics_acknowledged_n(metrics_acknowledged_);
    return answer;
  }
  v1::SyncResponse SaysNothing() {
    v1::SyncResponse answer;
    answer.set_term(1);
    answer.set_revision(++revision_);
    answer.mutable_lease_duration()->set_seconds(20);
    return answer;
  }
  v1::SyncResponse Grants() {
    v1::SyncResponse answer = Says(v1::Assignment::RUN);
    answer.mutable_assignments(0)->mutable_train()->mutable_checkpoint_interval()->set_seconds(60);
    return answer;
  }

  // Of a job of its own, `id` its attempt.
  static v1::Assignment GrantOf(const std::string& id) {
    v1::Assignment grant;
    grant.set_job("tenants/t/jobs/" + id);
    grant.set_lease_epoch(1);
    grant.set_attempt_id(id);
    grant.set_desired(v1::Assignment::RUN);
    grant.mutable_train();
    return grant;
  }
  v1::SyncResponse SaysOf(const std::vector<std::string>& ids, v1::Assignment::Desired desired) {
    v1::SyncResponse answer = SaysNothing();
    for (const std::string& id : ids) {
      *answer.add_assignments() = GrantOf(id);
      answer.mutable_assignments()->rbegin()->set_desired(desired);
    }
    return answer;
  }

  void Answer(absl::StatusOr<v1::SyncResponse> answer) {
    ASSERT_TRUE(channel_.under_way());
    channel_.Answer(std::move(answer));
    loop_.RunReady();
  }
  void Granted() {
    Answer(Grants());
    Pass(absl::Milliseconds(20));
  }
  void Training() {
    Granted();
    core_->OnTraining(kKey, 0);
    Pass(absl::Milliseconds(300));
  }
  void Pass(absl::Duration time) { loop_.Advance(time); }
  void ExpectMetric(const std::string& name, int64_t value) const {
    EXPECT_THAT(registry_.Text(), HasSubstr(absl::StrCat(name, " ", value, "\n")));
  }

  // What the last Sync says of kKey; a default one if nothing.
  Report LastReport() const {
    for (const Report& report : channel_.last().attempts()) {
      if (report.attempt_id() == kKey.attempt_id) return report;
    }
    return Report();
  }
  // Keeps the lease by answers for `time`.
  void Renewed(absl::Duration time) {
    for (absl::Duration passed; passed < time; passed += absl::Seconds(2)) {
      Pass(absl::Seconds(2));
      if (channel_.under_way()) Answer(Says(v1::Assignment::RUN));
    }
  }
  void Finished() {
    TrainedResult result;
    result.artifact = ArtifactAt(10);
    result.adapter_digest = "adapter";
    result.step = 10;
    result.loss = 0.5;
    core_->OnFinished(kKey, std::move(result));
    loop_.RunReady();
  }
  // Up to the report of the result.
  void Done() {
    Finished();
    publisher_.Finish(absl::OkStatus());
    publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
    core_->OnVerified(kKey, absl::OkStatus());
    Pass(absl::Milliseconds(300));
  }

  FakeClock clock_;
  FakeEventLoop loop_{clock_};
  FakeReportChannel channel_;
  FakeTrainer trainer_;
  FakePublisher publisher_;
  Metrics registry_{"worker"};
  WorkerMetrics metrics_{registry_};
  std::unique_ptr<WorkerCore> core_;
  absl::Status fatal_;
  int64_t revision_ = 0;
  int64_t committed_step_ = 0;
  int64_t metrics_acknowledged_ = 0;
};

// ---- Sync ----

TEST_F(WorkerCoreTest, ReportsAreNumberedAndTellWhatWasSeen) {
  EXPECT_EQ(channel_.last().report_number(), 1);
  EXPECT_EQ(channel_.last().incarnation(), 3);
  EXPECT_EQ(channel_.last().seen_revision(), 0);
  Answer(SaysNothing());
  EXPECT_EQ(channel_.last().report_number(), 2);
  EXPECT_EQ(channel_.last().seen_term(), 1);
  EXPECT_EQ(channel_.last().seen_revision(), 1);
}

TEST_F(WorkerCoreTest, AGrantStartsTheAttemptOnceAndIsListedFromThenOn) {
  Granted();
  EXPECT_EQ(trainer_.Count("start"), 1);
  EXPECT_EQ(LastReport().phase(), Report::PREPARING);
  Answer(Grants());
  EXPECT_EQ(trainer_.Count("start"), 1);
}

TEST_F(WorkerCoreTest, AnOlderAnswerIsIgnored) {
  v1::SyncResponse old = Grants();
  Answer(SaysNothing());
  Answer(old);  // Its revision is below the one seen.
  EXPECT_EQ(trainer_.Count("start"), 0);
  // A new term begins its revisions anew.
  old.set_term(2);
  Pass(absl::Seconds(1));
  Answer(old);
  EXPECT_EQ(trainer_.Count("start"), 1);
}

TEST_F(WorkerCoreTest, AnErrorIsFollowedByANewReportAfterAGrowingWait) {
  size_t sent = channel_.size();
  Answer(absl::UnavailableError("loading"));
  EXPECT_EQ(channel_.size(), sent);
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(channel_.size(), ++sent);
  Answer(absl::UnavailableError("loading"));
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(channel_.size(), sent);
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(channel_.size(), ++sent);
  for (int i = 0; i < 20; ++i) {
    Answer(absl::UnavailableError("loading"));
    Pass(absl::Seconds(2));
    EXPECT_EQ(channel_.size(), ++sent);
  }
}

TEST_F(WorkerCoreTest, AHigherIncarnationEndsThisProcess) {
  Answer(absl::FailedPreconditionError("incarnation 4 was seen"));
  EXPECT_TRUE(absl::IsFailedPrecondition(fatal_));
  Pass(absl::Minutes(1));
  EXPECT_FALSE(channel_.under_way());
}

TEST_F(WorkerCoreTest, AfterAHigherIncarnationNothingIsPublishedAndADrainWaitsForNobody) {
  Training();
  Answer(absl::FailedPreconditionError("incarnation 4 was seen"));
  bool drained = false;
  core_->Drain([&] { drained = true; });
  EXPECT_TRUE(drained);
  core_->OnCheckpoint(kKey, ArtifactAt(4));  // Its lease would go on for seconds.
  Finished();
  EXPECT_THAT(publisher_.published, IsEmpty());
}

TEST_F(WorkerCoreTest, UrgentNewsGiveUpAnIdleSyncAndMetricsWaitASecond) {
  Training();
  EXPECT_EQ(LastReport().phase(), Report::TRAINING);  // Without an answer to the one before.
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Seconds(2));
  const size_t sent = channel_.size();
  core_->OnProgress(kKey, PointAt(1));
  Pass(absl::Milliseconds(20));
  EXPECT_EQ(channel_.size(), sent + 1);
  EXPECT_EQ(LastReport().metrics_size(), 1);
  Answer(Says(v1::Assignment::RUN));          // Nothing is acknowledged yet.
  EXPECT_EQ(LastReport().metrics_size(), 0);  // So that the scheduler can hold it open.
  Pass(absl::Milliseconds(1100));
  EXPECT_EQ(LastReport().metrics_size(), 1);
}

TEST_F(WorkerCoreTest, ASlowSchedulerIsNotGivenUpForEver) {
  Training();
  const size_t sent = channel_.size();
  for (int i = 0; i < 100; ++i) {
    core_->OnLog(kKey, v1::JobEvent::INFO, "news");
    Pass(absl::Milliseconds(200));
  }
  EXPECT_LE(channel_.size(), sent + 3);
  EXPECT_TRUE(channel_.under_way());
}

TEST_F(WorkerCoreTest, DeviceTimeAndPassTimesGoWithEachReportAndForceNone) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Seconds(2));
  EXPECT_EQ(LastReport().device_ms(), 0);
  const size_t sent = channel_.size();
  PassReport pass = {.device_times = {{kKey, absl::Microseconds(1'500'999)}},
                     .measure = PassMeasure{.base_manifest_digest = "sha256:base",
                                            .compute_type = v1::BF16,
                                            .tokens = 936,
                                            .duration = absl::Seconds(2)}};
  for (int i = 0; i < 10; ++i) {
    core_->OnPass(pass);
    Pass(absl::Milliseconds(100));
  }
  EXPECT_EQ(channel_.size(), sent);
  Answer(Says(v1::Assignment::RUN));
  ASSERT_EQ(channel_.size(), sent + 1);
  EXPECT_EQ(LastReport().device_ms(), 1'500);
  ASSERT_EQ(channel_.last().pass_times_size(), 1);
  EXPECT_EQ(channel_.last().pass_times(0).base_manifest_digest(), "sha256:base");
  EXPECT_EQ(channel_.last().pass_times(0).compute_type(), v1::BF16);
  EXPECT_NEAR(channel_.last().pass_times(0).seconds_per_token(), 0.002, 1e-9);
  // What was told stays told, a pass with other jobs changes nothing, nor does the end.
  core_->OnPass({.device_times = {{kKey, absl::Milliseconds(5)}}});
  core_->OnPass({.device_times = {{{kKey.job, 7, "attempt-7"}, absl::Hours(1)}}});
  Answer(Says(v1::Assignment::RUN));
  EXPECT_EQ(LastReport().device_ms(), 1'500);
  EXPECT_EQ(channel_.last().pass_times_size(), 1);
  core_->OnPass({.device_times = {{kKey, absl::Milliseconds(2'000)}}});
  core_->OnFailed(kKey, {});
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::FAILED);
  EXPECT_EQ(LastReport().device_ms(), 2'000);
}

TEST_F(WorkerCoreTest, TheNextAttemptOfAJobBeginsWithoutDeviceTime) {
  Training();
  core_->OnPass({.device_times = {{kKey, absl::Seconds(5)}}});
  core_->OnFailed(kKey, {});
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().device_ms(), 5'000);
  v1::SyncResponse answer = SaysOf({"attempt-2"}, v1::Assignment::RUN);
  answer.mutable_assignments(0)->set_job(kKey.job);
  answer.mutable_assignments(0)->set_lease_epoch(2);
  Answer(answer);
  core_->OnPass({.device_times = {{kKey, absl::Seconds(6)}}});  // Late.
  Pass(absl::Milliseconds(300));
  bool found = false;
  for (const Report& report : channel_.last().attempts()) {
    if (report.attempt_id() != "attempt-2") continue;
    found = true;
    EXPECT_EQ(report.device_ms(), 0);
  }
  EXPECT_TRUE(found);
}

TEST_F(WorkerCoreTest, MetricsAreNumberedAndRepeatedUntilTheyAreAcknowledged) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  for (int i = 1; i <= 3; ++i) {
    v1::MetricPoint point = PointAt(i);
    point.set_tokens_per_second(10 * i);
    core_->OnProgress(kKey, std::move(point));
  }
  Pass(absl::Milliseconds(1100));
  EXPECT_EQ(LastReport().first_metric_n(), 1);
  EXPECT_EQ(LastReport().metrics_size(), 3);
  EXPECT_EQ(LastReport().step(), 3);
  EXPECT_EQ(LastReport().tokens_per_second(), 30);
  Answer(absl::UnavailableError("lost"));
  Pass(absl::Seconds(2));
  EXPECT_EQ(LastReport().metrics_size(), 3);
  metrics_acknowledged_ = 2;
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Milliseconds(1100));
  EXPECT_EQ(LastReport().first_metric_n(), 3);
  ASSERT_EQ(LastReport().metrics_size(), 1);
  EXPECT_EQ(LastReport().metrics(0).step(), 3);
}

TEST_F(WorkerCoreTest, AReportHasAtMost4096PointsAndWhatIsKeptIsBounded) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  for (int i = 0; i < 70'000; ++i) core_->OnProgress(kKey, PointAt(1));
  Pass(absl::Milliseconds(1100));
  EXPECT_EQ(LastReport().metrics_size(), 4096);
  EXPECT_EQ(LastReport().first_metric_n(), 70'000 - 65'536 + 1);
  EXPECT_EQ(metrics_.report_points_dropped.Value(), 70'000 - 65'536);
}

TEST_F(WorkerCoreTest, AReportHasAtMost256LinesAndWhatIsKeptIsBounded) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  for (int i = 0; i < 1'024; ++i) core_->OnLog(kKey, v1::JobEvent::INFO, absl::StrCat(i));
  EXPECT_EQ(metrics_.report_points_dropped.Value(), 0);
  core_->OnLog(kKey, v1::JobEvent::INFO, "1024");
  EXPECT_EQ(metrics_.report_points_dropped.Value(), 1);
  Pass(absl::Milliseconds(1100));
  ASSERT_EQ(LastReport().logs_size(), 256);
  EXPECT_EQ(LastReport().first_log_n(), 2);
  EXPECT_EQ(LastReport().logs(0).message(), "1");
}

TEST_F(WorkerCoreTest, LinesOfAllAttemptsInOneReportAreBoundedByTheirBytesAndTheRestFollows) {
  Begin({.report_bytes_max = 10'000});
  Answer(SaysOf({"a", "b"}, v1::Assignment::RUN));
  for (const char* id : {"a", "b"}) {
    const AttemptKey key = {absl::StrCat("tenants/t/jobs/", id), 1, id};
    for (int i = 0; i < 2; ++i) {
      core_->OnLog(key, v1::JobEvent::INFO, std::string(5'000, 'x'));  // Cut to 4,000.
    }
  }
  Pass(absl::Milliseconds(1100));
  ASSERT_EQ(channel_.last().attempts_size(), 2);
  EXPECT_EQ(channel_.last().attempts(0).logs_size(), 2);
  EXPECT_EQ(channel_.last().attempts(1).logs_size(), 0);
  EXPECT_LE(channel_.last().ByteSizeLong(), 10'000u);
  v1::SyncResponse answer = SaysOf({"a", "b"}, v1::Assignment::RUN);
  answer.mutable_assignments(0)->set_logs_acknowledged_n(2);
  Answer(answer);
  Pass(absl::Milliseconds(1100));
  EXPECT_EQ(channel_.last().attempts(0).logs_size(), 0);
  EXPECT_EQ(channel_.last().attempts(1).logs_size(), 2);
}

TEST_F(WorkerCoreTest, PointsInOneReportAreBoundedByTheirBytes) {
  Begin({.report_bytes_max = 10 * 96});  // What a point takes at most.
  Training();
  Answer(Says(v1::Assignment::RUN));
  for (int i = 1; i <= 11; ++i) core_->OnProgress(kKey, PointAt(i));
  Pass(absl::Milliseconds(1100));
  EXPECT_EQ(LastReport().metrics_size(), 10);
  metrics_acknowledged_ = 10;
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Milliseconds(1100));
  ASSERT_EQ(LastReport().metrics_size(), 1);
  EXPECT_EQ(LastReport().metrics(0).step(), 11);
}

TEST_F(WorkerCoreTest, AGrantBeyondTheMostAttemptsIsTakenOnceThereIsRoom) {
  Begin({.attempts_max = 2});
  Answer(SaysOf({"a", "b", "c"}, v1::Assignment::RUN));
  EXPECT_EQ(core_->attempts_held(), 2u);
  ExpectMetric("deltaworks_worker_attempts", 2);
  EXPECT_THAT(trainer_.commands, ElementsAre("start a", "start b"));
  Pass(absl::Milliseconds(20));
  Answer(SaysOf({"a"}, v1::Assignment::STOP));
  core_->OnLeft({"tenants/t/jobs/a", 1, "a"}, nullptr);
  Pass(absl::Milliseconds(300));
  Answer(SaysOf({"a"}, v1::Assignment::STOP));
  ExpectMetric("deltaworks_worker_attempts", 1);
  Answer(SaysOf({"c"}, v1::Assignment::RUN));
  EXPECT_THAT(trainer_.commands, Contains("start c"));
  EXPECT_EQ(core_->attempts_held(), 2u);
}

TEST_F(WorkerCoreTest, TheLastAttemptsThatEndedAreRememberedAndOlderOnesAreNot) {
  Begin({.ended_kept_max = 2});
  const std::vector<std::string> ids = {"a", "b", "c"};
  Answer(SaysOf(ids, v1::Assignment::RUN));
  Pass(absl::Milliseconds(20));
  Answer(SaysOf(ids, v1::Assignment::STOP));
  for (const std::string& id : ids) core_->OnLeft({"tenants/t/jobs/" + id, 1, id}, nullptr);
  Pass(absl::Milliseconds(300));
  Answer(SaysOf(ids, v1::Assignment::STOP));
  EXPECT_EQ(core_->attempts_held(), 0u);
  trainer_.commands.clear();
  Answer(SaysOf(ids, v1::Assignment::RUN));
  EXPECT_THAT(trainer_.commands, ElementsAre("start a"));
}

TEST_F(WorkerCoreTest, SyncsAreCountedByHowTheyEndedAndThoseGivenUpAreNot) {
  Answer(SaysNothing());
  Answer(absl::UnavailableError("down"));
  Pass(absl::Seconds(1));
  Answer(Grants());
  Answer(Says(v1::Assignment::RUN));
  core_->OnTraining(kKey, 0);  // Gives up the one under way.
  Pass(absl::Milliseconds(300));
  ExpectMetric("deltaworks_worker_syncs_answered_total", 3);
  ExpectMetric("deltaworks_worker_syncs_failed_total", 1);
}

TEST_F(WorkerCoreTest, TheBasesOfTheCacheAreSaidFromTheNextReportOn) {
  core_->SetBasesCached({"sha256:a", "sha256:b"});
  EXPECT_EQ(channel_.last().environment().bases_cached_size(), 0);
  Answer(SaysNothing());
  EXPECT_THAT(channel_.last().environment().bases_cached(), ElementsAre("sha256:a", "sha256:b"));
  core_->SetBasesCached({"sha256:b"});
  Answer(SaysNothing());
  EXPECT_THAT(channel_.last().environment().bases_cached(), ElementsAre("sha256:b"));
}

// ---- Leases ----

TEST_F(WorkerCoreTest, ALeaseIsCountedFromWhenTheSyncWasSentNotFromTheAnswer) {
  Pass(absl::Seconds(5));  // The first Sync is held open.
  Granted();
  Pass(kLease - absl::Seconds(5) - absl::Seconds(1));
  EXPECT_EQ(trainer_.Count("park"), 0);
  Pass(absl::Seconds(1));
  EXPECT_EQ(trainer_.Count("park"), 1);
}

TEST_F(WorkerCoreTest, AGrantThatCameAfterItsLeaseIsNotStarted) {
  Pass(kLease);
  Answer(Grants());
  EXPECT_EQ(trainer_.Count("start"), 0);
}

TEST_F(WorkerCoreTest, AnswersRenewAndAnAttemptNotNamedGoesOnUntilItsLeaseEnds) {
  Training();
  Renewed(absl::Minutes(2));
  EXPECT_EQ(trainer_.Count("park"), 0);
  for (int i = 0; i < 8; ++i) {
    Answer(SaysNothing());
    Pass(absl::Seconds(2));
  }
  EXPECT_THAT(trainer_.commands, Not(Contains("stop")));
  EXPECT_EQ(trainer_.Count("park"), 0);
  Pass(absl::Seconds(3));
  EXPECT_EQ(trainer_.Count("park"), 1);
  EXPECT_EQ(LastReport().phase(), Report::PARKED);
}

TEST_F(WorkerCoreTest, AfterItsLeaseNothingIsPublishedUntilTheSameAttemptIsConfirmed) {
  Training();
  Answer(absl::UnavailableError("down"));
  Pass(kLease + absl::Seconds(3));
  EXPECT_EQ(trainer_.Count("park"), 1);
  core_->OnCheckpoint(kKey, ArtifactAt(4));
  core_->OnProgress(kKey, PointAt(4));
  loop_.RunReady();
  EXPECT_THAT(publisher_.published, IsEmpty());
  Pass(absl::Seconds(2));
  EXPECT_EQ(LastReport().phase(), Report::PARKED);
  EXPECT_EQ(LastReport().metrics_size(), 0);
  EXPECT_FALSE(LastReport().has_checkpoint());

  Answer(Says(v1::Assignment::RUN));
  EXPECT_EQ(trainer_.Count("resume"), 1);
  ASSERT_EQ(publisher_.published.size(), 1u);
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::TRAINING);
}

TEST_F(WorkerCoreTest, ACheckpointStoredAsTheLeaseEndedIsReportedOnlyOnceConfirmed) {
  Training();
  core_->OnCheckpoint(kKey, ArtifactAt(4));
  loop_.RunReady();
  Answer(absl::UnavailableError("down"));
  Pass(kLease);
  publisher_.Finish(absl::OkStatus());
  Pass(absl::Seconds(3));
  EXPECT_FALSE(LastReport().has_checkpoint());
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().checkpoint().step(), 4);
}

TEST_F(WorkerCoreTest, StopEndsTheAttemptPublishesNothingAndItIsNeverStartedAgain) {
  Training();
  Answer(Says(v1::Assignment::STOP));
  EXPECT_EQ(trainer_.Count("stop"), 1);
  core_->OnCheckpoint(kKey, ArtifactAt(4));
  core_->OnLeft(kKey, ArtifactAt(5));
  Pass(absl::Milliseconds(300));
  EXPECT_THAT(publisher_.published, IsEmpty());
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  Answer(Says(v1::Assignment::STOP));
  EXPECT_EQ(core_->attempts_held(), 0u);
  Pass(absl::Milliseconds(300));
  Answer(Grants());
  EXPECT_EQ(trainer_.Count("start"), 1);
}

TEST_F(WorkerCoreTest, OneThatWasToldToStopLeavesAtOnceHoweverManyPointsWait) {
  Training();
  for (int i = 0; i < 10'000; ++i) core_->OnProgress(kKey, PointAt(1));
  Answer(Says(v1::Assignment::STOP));
  core_->OnLeft(kKey, nullptr);
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
}

TEST_F(WorkerCoreTest, AStopThatAnswersAReportFromBeforeTheEndDoesNotKeepLeftFromBeingSaid) {
  Training();
  Answer(Says(v1::Assignment::STOP));
  Pass(absl::Milliseconds(1));
  core_->OnLeft(kKey, nullptr);
  ASSERT_NE(LastReport().phase(), Report::LEFT);  // The one under way was sent before.
  Answer(Says(v1::Assignment::STOP));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(core_->attempts_held(), 1u);
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  Answer(Says(v1::Assignment::STOP));
  EXPECT_EQ(core_->attempts_held(), 0u);
}

// ---- Checkpoints ----

TEST_F(WorkerCoreTest, ACheckpointIsTakenEachIntervalOfTraining) {
  Granted();
  Renewed(absl::Minutes(2));  // Preparing does not count.
  EXPECT_EQ(trainer_.Count("checkpoint"), 0);
  core_->OnTraining(kKey, 0);
  Renewed(absl::Seconds(62));
  EXPECT_EQ(trainer_.Count("checkpoint"), 1);
  Renewed(absl::Seconds(60));
  EXPECT_EQ(trainer_.Count("checkpoint"), 2);
}

TEST_F(WorkerCoreTest, TimeParkedDoesNotCountTowardsTheInterval) {
  Training();
  Renewed(absl::Seconds(30));
  Answer(absl::UnavailableError("down"));
  Pass(absl::Minutes(5));
  EXPECT_EQ(trainer_.Count("checkpoint"), 0);
  Answer(Says(v1::Assignment::RUN));
  Renewed(absl::Seconds(6));
  EXPECT_EQ(trainer_.Count("checkpoint"), 0);
  Renewed(absl::Seconds(24));
  EXPECT_EQ(trainer_.Count("checkpoint"), 1);
}

TEST_F(WorkerCoreTest, AStoredCheckpointIsReportedUntilItIsCommitted) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  core_->OnCheckpoint(kKey, ArtifactAt(4));
  EXPECT_FALSE(LastReport().has_checkpoint());  // Not before the store has it.
  ExpectMetric("deltaworks_worker_checkpoints_published_total", 0);
  publisher_.Finish(absl::OkStatus());
  ExpectMetric("deltaworks_worker_checkpoints_published_total", 1);
  ExpectMetric("deltaworks_worker_published_bytes_total", 100);
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().checkpoint().step(), 4);
  EXPECT_EQ(LastReport().checkpoint().manifest_digest(), "digest-4");
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Milliseconds(1100));
  EXPECT_TRUE(LastReport().has_checkpoint());
  committed_step_ = 4;
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Milliseconds(1100));
  EXPECT_FALSE(LastReport().has_checkpoint());
}

TEST_F(WorkerCoreTest, AFullDiskDuringACheckpointIsReportedAndItIsTriedAgainWhileTheJobGoesOn) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  core_->OnCheckpoint(kKey, ArtifactAt(4));
  publisher_.Finish(absl::ResourceExhaustedError("the disk is full"));
  Pass(absl::Milliseconds(300));
  ASSERT_EQ(LastReport().logs_size(), 1);
  EXPECT_THAT(LastReport().logs(0).message(), HasSubstr("the disk is full"));
  EXPECT_EQ(LastReport().phase(), Report::TRAINING);
  Pass(absl::Seconds(1));
  ASSERT_EQ(publisher_.published.size(), 2u);
  EXPECT_EQ(publisher_.published[1]->step, 4);
  // A newer one takes the place of the one that waits.
  publisher_.Finish(absl::ResourceExhaustedError("the disk is full"));
  core_->OnCheckpoint(kKey, ArtifactAt(9));
  Pass(absl::Seconds(2));
  ASSERT_EQ(publisher_.published.size(), 3u);
  EXPECT_EQ(publisher_.published[2]->step, 9);
}

TEST_F(WorkerCoreTest, YieldLeavesWithACheckpointThatWasStoredFirst) {
  Training();
  Answer(Says(v1::Assignment::YIELD));
  EXPECT_EQ(trainer_.Count("leave"), 1);
  core_->OnLeft(kKey, ArtifactAt(6));
  Pass(absl::Milliseconds(300));
  EXPECT_NE(LastReport().phase(), Report::LEFT);
  publisher_.Finish(absl::OkStatus());
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_EQ(LastReport().checkpoint().step(), 6);
  Answer(Says(v1::Assignment::STOP));
  EXPECT_EQ(core_->attempts_held(), 0u);
}

TEST_F(WorkerCoreTest, LeftIsRepeatedWhileASchedulerThatLoadsStillSaysRun) {
  Training();
  Answer(Says(v1::Assignment::YIELD));
  core_->OnLeft(kKey, nullptr);
  Pass(absl::Milliseconds(300));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(LastReport().phase(), Report::LEFT);
    Answer(Says(v1::Assignment::RUN));
    Pass(absl::Seconds(2));
  }
  EXPECT_EQ(trainer_.Count("start"), 1);
}

TEST_F(WorkerCoreTest, AFailureIsReportedUntilTheSchedulerTookIt) {
  Training();
  v1::Failure failure;
  failure.set_code("DIVERGED");
  failure.set_fault(v1::Failure::USER);
  core_->OnFailed(kKey, failure);
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::FAILED);
  EXPECT_EQ(LastReport().failure().code(), "DIVERGED");
  Answer(absl::UnavailableError("lost"));
  Pass(absl::Seconds(2));
  EXPECT_EQ(LastReport().phase(), Report::FAILED);
  Answer(Says(v1::Assignment::STOP));
  EXPECT_EQ(core_->attempts_held(), 0u);
}

TEST_F(WorkerCoreTest, LeftAlwaysCarriesItsCheckpointAlsoWhenItIsSaidAgain) {
  Training();
  const v1::SyncResponse old = Says(v1::Assignment::RUN);
  Answer(Says(v1::Assignment::YIELD));
  core_->OnLeft(kKey, ArtifactAt(6));
  publisher_.Finish(absl::OkStatus());
  Pass(absl::Milliseconds(300));
  ASSERT_EQ(LastReport().phase(), Report::LEFT);
  // A scheduler that is no more answers; the one that is hears of the checkpoint with LEFT, for
  // after LEFT it takes none.
  for (int i = 0; i < 3; ++i) {
    Answer(old);
    Pass(absl::Milliseconds(100));
    EXPECT_EQ(LastReport().phase(), Report::LEFT);
    EXPECT_EQ(LastReport().checkpoint().step(), 6);
  }
}

TEST_F(WorkerCoreTest, LeftIsNotSaidWithoutALeaseWhileItsCheckpointIsNotCommitted) {
  Training();
  Answer(Says(v1::Assignment::YIELD));
  core_->OnLeft(kKey, ArtifactAt(6));
  publisher_.Finish(absl::OkStatus());
  loop_.RunReady();
  Answer(absl::UnavailableError("down"));
  Pass(kLease + absl::Seconds(3));
  EXPECT_EQ(LastReport().phase(), Report::PARKED);
  EXPECT_FALSE(LastReport().has_checkpoint());
  Answer(Says(v1::Assignment::YIELD));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_EQ(LastReport().checkpoint().step(), 6);
}

TEST_F(WorkerCoreTest, AParkedJobThatTheSchedulerDoesNotKnowIsDroppedAfterAnHour) {
  Training();
  const auto say_nothing = [this](absl::Duration time) {
    for (absl::Duration passed; passed < time; passed += absl::Seconds(5)) {
      Pass(absl::Seconds(5));
      if (channel_.under_way()) Answer(SaysNothing());
    }
  };
  say_nothing(absl::Minutes(59));
  EXPECT_EQ(LastReport().phase(), Report::PARKED);
  EXPECT_EQ(trainer_.Count("stop"), 0);
  say_nothing(absl::Minutes(3));
  EXPECT_EQ(trainer_.Count("stop"), 1);
  core_->OnLeft(kKey, nullptr);
  say_nothing(absl::Seconds(10));
  EXPECT_EQ(core_->attempts_held(), 0u);
}

TEST_F(WorkerCoreTest, WhileTheSchedulerIsSilentAJobStaysParkedHoweverLong) {
  Training();
  for (int i = 0; i < 1000; ++i) {
    if (channel_.under_way()) Answer(absl::UnavailableError("down"));
    Pass(absl::Minutes(1));
  }
  if (!channel_.under_way()) Pass(absl::Seconds(2));
  Answer(SaysNothing());  // Its first words may come before it has loaded.
  EXPECT_EQ(trainer_.Count("stop"), 0);
  Pass(absl::Seconds(2));
  Answer(Says(v1::Assignment::RUN));
  EXPECT_EQ(trainer_.Count("resume"), 1);
}

// ---- Results ----

TEST_F(WorkerCoreTest, AResultIsStoredReadBackAndVerifiedBeforeItIsReported) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Finished();
  ASSERT_EQ(publisher_.published.size(), 1u);
  EXPECT_NE(LastReport().phase(), Report::DONE);
  publisher_.Finish(absl::OkStatus());
  EXPECT_EQ(trainer_.Count("verify"), 0);
  publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
  EXPECT_EQ(trainer_.verified, "model");
  Pass(absl::Milliseconds(300));
  EXPECT_NE(LastReport().phase(), Report::DONE);
  core_->OnVerified(kKey, absl::OkStatus());
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::DONE);
  EXPECT_EQ(LastReport().result().manifest_digest(), "digest-10");
  EXPECT_EQ(LastReport().result().adapter_digest(), "adapter");
  EXPECT_EQ(LastReport().result().loss(), 0.5);
  ExpectMetric("deltaworks_worker_published_bytes_total", 100);
  ExpectMetric("deltaworks_worker_checkpoints_published_total", 0);
}

TEST_F(WorkerCoreTest, TheLastCheckpointIsStoredBeforeTheResult) {
  Training();
  TrainedResult result;
  result.artifact = ArtifactAt(10);
  result.checkpoint = ArtifactAt(9);
  core_->OnFinished(kKey, std::move(result));
  ASSERT_EQ(publisher_.published.size(), 1u);
  EXPECT_EQ(publisher_.published[0]->step, 9);
  publisher_.Finish(absl::OkStatus());
  EXPECT_EQ(publisher_.published.back()->step, 10);
}

TEST_F(WorkerCoreTest, AResultIsRepeatedAfterTheLeaseAndKeptUntilTheJobIsFinal) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Done();
  EXPECT_TRUE(LastReport().has_result());
  Answer(absl::UnavailableError("the answer was lost"));
  Pass(absl::Minutes(1));
  EXPECT_EQ(LastReport().phase(), Report::DONE);
  EXPECT_TRUE(LastReport().has_result());

  v1::SyncResponse accepted = Says(v1::Assignment::STOP);
  accepted.mutable_assignments(0)->set_result_accepted(true);
  Answer(accepted);
  EXPECT_EQ(core_->attempts_held(), 1u);
  EXPECT_EQ(trainer_.Count("stop"), 0);
  Pass(absl::Minutes(5));
  v1::SyncResponse final = Says(v1::Assignment::STOP);
  final.mutable_assignments(0)->set_result_accepted(true);
  final.mutable_assignments(0)->set_job_final(true);
  Answer(final);
  EXPECT_EQ(core_->attempts_held(), 0u);
  EXPECT_EQ(trainer_.Count("forget"), 1);
}

TEST_F(WorkerCoreTest, ARunIsOutOfMemoryBeforeItsResultIsReported) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Finished();
  publisher_.Finish(absl::OkStatus());
  publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
  EXPECT_EQ(trainer_.Count("forget"), 0) << "it is still compared";
  core_->OnVerified(kKey, absl::OkStatus());
  EXPECT_EQ(trainer_.Count("forget"), 1);
  EXPECT_FALSE(LastReport().has_result());
}

TEST_F(WorkerCoreTest, MissingBlobsAreUploadedAgainAndTheResultIsReportedAgain) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Done();
  v1::SyncResponse accepted = Says(v1::Assignment::STOP);
  accepted.mutable_assignments(0)->set_result_accepted(true);
  Answer(accepted);
  Pass(kLease * 2);
  EXPECT_FALSE(LastReport().has_result());  // So that it is not taken for the answer to a loss.
  v1::SyncResponse missing = accepted;
  missing.set_revision(++revision_);
  missing.mutable_assignments(0)->add_missing_blobs("digest-10");
  Answer(missing);
  ASSERT_EQ(publisher_.published.size(), 2u);
  Pass(absl::Seconds(2));
  EXPECT_EQ(LastReport().phase(), Report::DONE);
  EXPECT_FALSE(LastReport().has_result());
  publisher_.Finish(absl::OkStatus());
  EXPECT_FALSE(LastReport().has_result());
  publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
  EXPECT_EQ(trainer_.Count("verify"), 1) << "the run is gone; their digests are the same";
  Pass(absl::Milliseconds(300));
  EXPECT_TRUE(LastReport().has_result());
}

TEST_F(WorkerCoreTest, ACorruptReadIsUploadedAgainAndTheThirdFailsTheAttempt) {
  Training();
  Renewed(absl::Seconds(2));
  Finished();
  for (int i = 1; i <= 3; ++i) {
    ASSERT_EQ(publisher_.published.size(), static_cast<size_t>(i));
    publisher_.Finish(absl::OkStatus());
    publisher_.read_done(absl::DataLossError("digest differs"));
    Renewed(absl::Seconds(4));
  }
  EXPECT_EQ(publisher_.published.size(), 3u);
  EXPECT_EQ(LastReport().phase(), Report::FAILED);
  EXPECT_EQ(LastReport().failure().code(), "BLOB_CORRUPT");
  EXPECT_EQ(LastReport().failure().fault(), v1::Failure::PLATFORM);
}

TEST_F(WorkerCoreTest, AResultThatCouldNotBeTriedIsReadBackAgainAndIsNotCalledCorrupt) {
  Training();
  Renewed(absl::Seconds(2));
  Finished();
  publisher_.Finish(absl::OkStatus());
  for (int i = 0; i < 5; ++i) {
    ASSERT_NE(publisher_.read_done, nullptr) << i;
    std::exchange(publisher_.read_done, nullptr)(Publisher::AdapterBytes{"model", "config"});
    core_->OnVerified(kKey, absl::ResourceExhaustedError("no room"));
    Renewed(absl::Seconds(40));
  }
  EXPECT_EQ(publisher_.published.size(), 1u) << "nothing was wrong with the bytes";
  publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
  core_->OnVerified(kKey, absl::OkStatus());
  Renewed(absl::Seconds(2));
  EXPECT_EQ(LastReport().phase(), Report::DONE);
}

TEST_F(WorkerCoreTest, AResultNeverReportedWaitsForAConfirmedLease) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Finished();
  publisher_.Finish(absl::OkStatus());
  Answer(absl::UnavailableError("down"));
  Pass(kLease + absl::Seconds(2));
  publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
  core_->OnVerified(kKey, absl::OkStatus());
  Pass(absl::Seconds(3));
  EXPECT_EQ(LastReport().phase(), Report::PARKED);
  EXPECT_FALSE(LastReport().has_result());
  Answer(Says(v1::Assignment::RUN));
  Pass(absl::Milliseconds(300));
  EXPECT_TRUE(LastReport().has_result());
}

TEST_F(WorkerCoreTest, AResultBeatsAYield) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Finished();
  Answer(Says(v1::Assignment::YIELD));
  EXPECT_EQ(trainer_.Count("leave"), 0);
  publisher_.Finish(absl::OkStatus());
  publisher_.read_done(Publisher::AdapterBytes{"model", "config"});
  core_->OnVerified(kKey, absl::OkStatus());
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::DONE);
}

TEST_F(WorkerCoreTest, AResultThatIsNoLongerWantedIsDroppedAndTheAttemptLeaves) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  Finished();
  Answer(Says(v1::Assignment::STOP));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  Answer(Says(v1::Assignment::STOP));
  EXPECT_EQ(core_->attempts_held(), 0u);
  EXPECT_EQ(trainer_.Count("forget"), 1);
}

// ---- Draining ----

TEST_F(WorkerCoreTest, ADrainLeavesEveryAttemptTakesNoNewOneAndEndsWhenAllWereTakenBack) {
  Training();
  Answer(Says(v1::Assignment::RUN));
  bool drained = false;
  core_->Drain([&] { drained = true; });
  Pass(absl::Milliseconds(300));
  EXPECT_TRUE(channel_.last().draining());
  EXPECT_EQ(trainer_.Count("leave"), 1);
  core_->OnLeft(kKey, ArtifactAt(6));
  publisher_.Finish(absl::OkStatus());
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_EQ(LastReport().checkpoint().step(), 6);
  EXPECT_FALSE(drained);

  v1::SyncResponse answer = Says(v1::Assignment::STOP);
  *answer.add_assignments() = GrantOf("late-1");
  Answer(answer);
  EXPECT_FALSE(drained);
  EXPECT_THAT(trainer_.commands, Not(Contains("start late-1")));
  Pass(absl::Milliseconds(300));
  ASSERT_EQ(channel_.last().attempts_size(), 1);
  EXPECT_EQ(channel_.last().attempts(0).phase(), Report::LEFT);  // Handed back at once.
  Answer(SaysOf({"late-1"}, v1::Assignment::STOP));
  EXPECT_TRUE(drained);
}

TEST_F(WorkerCoreTest, AnIdleWorkerDoesNotWaitForASchedulerThatIsAway) {
  Answer(absl::UnavailableError("away"));
  bool drained = false;
  core_->Drain([&] { drained = true; });
  EXPECT_FALSE(drained);
  Pass(absl::Seconds(2));  // Its next report says that it drains.
  Answer(absl::UnavailableError("away"));
  EXPECT_TRUE(drained);
}

TEST_F(WorkerCoreTest, AWorkerWithJobsGoesOnTryingWhileTheSchedulerIsAway) {
  Training();
  bool drained = false;
  core_->Drain([&] { drained = true; });
  for (int i = 0; i < 5; ++i) {
    Pass(absl::Seconds(2));
    Answer(absl::UnavailableError("away"));
  }
  EXPECT_FALSE(drained);
}

TEST_F(WorkerCoreTest, AnIdleWorkerIsDrainedOnceTheSchedulerHeardOfIt) {
  Answer(SaysNothing());
  bool drained = false;
  core_->Drain([&] { drained = true; });
  Pass(absl::Milliseconds(300));
  EXPECT_FALSE(drained);
  EXPECT_TRUE(channel_.last().draining());
  EXPECT_EQ(channel_.last().seen_term(), 0);  // So that the scheduler does not hold it open.
  Answer(SaysNothing());
  EXPECT_TRUE(drained);
}

// ---- Gangs ----

TEST_F(WorkerCoreTest, AFollowerOfAGangReportsStepsWithoutNumbersAndLeavesAfterItsLast) {
  v1::SyncResponse grant = Grants();
  grant.mutable_assignments(0)->mutable_train()->mutable_gang()->set_rank(1);
  grant.mutable_assignments(0)->mutable_train()->mutable_facts()->set_total_steps(7);
  Answer(grant);
  Pass(absl::Milliseconds(20));
  core_->OnTraining(kKey, 0);
  core_->OnProgress(kKey, PointAt(7));
  core_->OnLeft(kKey, nullptr);
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_EQ(LastReport().step(), 7);
  EXPECT_EQ(LastReport().metrics_size(), 0);
}

TEST_F(WorkerCoreTest, AMemberThatLeftWithTheOthersHandsOverItsCheckpointAndSaysSoWhenItIsTold) {
  v1::SyncResponse grant = Grants();
  grant.mutable_assignments(0)->mutable_train()->mutable_gang();
  grant.mutable_assignments(0)->mutable_train()->mutable_facts()->set_total_steps(10);
  Answer(grant);
  Pass(absl::Milliseconds(20));
  core_->OnTraining(kKey, 0);
  core_->OnProgress(kKey, PointAt(4));
  core_->OnLeft(kKey, ArtifactAt(4));  // Another one was told to.
  publisher_.Finish(absl::OkStatus());
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::TRAINING);
  EXPECT_EQ(LastReport().checkpoint().step(), 4);
  Pass(absl::Seconds(2));
  metrics_acknowledged_ = 1;
  Answer(Says(v1::Assignment::YIELD));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_EQ(LastReport().checkpoint().step(), 4);
}

class BrokenGangTest : public WorkerCoreTest {
 protected:
  void SetUp() override {
    Training();
    v1::Failure failure;
    failure.set_code(kGangBroke);
    failure.set_message("rank 1 of 2: connection closed by rank 0");
    core_->OnFailed(kKey, failure);
    loop_.RunReady();
  }
};

TEST_F(BrokenGangTest, ItHoldsStillUntilTheSchedulerWhoKnowsTheCauseStopsIt) {
  Renewed(absl::Seconds(20));
  EXPECT_EQ(LastReport().phase(), Report::TRAINING);
  Pass(absl::Seconds(2));
  Answer(Says(v1::Assignment::STOP));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_FALSE(LastReport().has_failure());
  Renewed(absl::Minutes(2));
  EXPECT_FALSE(LastReport().has_failure());
}

TEST_F(BrokenGangTest, ItFailsAfterAMinuteInWhichNobodySaidSo) {
  Renewed(absl::Seconds(50));
  EXPECT_EQ(LastReport().phase(), Report::TRAINING);
  Renewed(absl::Seconds(14));
  EXPECT_EQ(LastReport().phase(), Report::FAILED);
  EXPECT_EQ(LastReport().failure().code(), kGangBroke);
}

TEST_F(BrokenGangTest, ItLeavesIfAllWereToldToAndAnotherWasFaster) {
  Pass(absl::Seconds(2));
  Answer(Says(v1::Assignment::YIELD));
  Pass(absl::Milliseconds(300));
  EXPECT_EQ(LastReport().phase(), Report::LEFT);
  EXPECT_FALSE(LastReport().has_failure());
}

}  // namespace
}  // namespace deltaworks::services
