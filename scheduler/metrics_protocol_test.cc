// Events, metrics and lines of log: each once, in order.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

TEST_F(ProtocolTest, EventsOfAJobAreNumberedFromOneWithoutGaps) {
  const std::string a = Run();
  ASSERT_TRUE(SayCheckpoint(40).ok());
  RestartWorker();
  ASSERT_TRUE(SayResult().ok());
  h.AnswerVersion(a);
  int64_t seq = 0;
  for (const v1::JobEvent& event : h.Shown(a)) EXPECT_EQ(event.seq(), ++seq);
  EXPECT_EQ(Status(a).last_event_seq(), seq);
  EXPECT_EQ(h.Shown(a).back().state(), v1::SUCCEEDED);
}

class MetricsTest : public ProtocolTest {
 protected:
  absl::Status SayMetrics(int64_t first_n, const std::vector<v1::MetricPoint>& points,
                          v1::AttemptReport::Phase phase = kTraining) {
    h.now += h.options.metrics_interval;
    v1::AttemptReport report =
        Harness::Report(held, phase, points.empty() ? 0 : points.back().step());
    report.set_first_metric_n(first_n);
    report.set_tokens_per_second(100);
    for (const v1::MetricPoint& point : points) *report.add_metrics() = point;
    return h.Sync(&worker, {report});
  }

  int64_t Acknowledged() const { return worker.answer.assignments(0).metrics_acknowledged_n(); }
};

TEST_F(MetricsTest, APointIsRecordedOnceHoweverOftenItIsSent) {
  const std::string a = Run();
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4), MakePoint(2, 3)}).ok());
  EXPECT_EQ(Acknowledged(), 2);
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4), MakePoint(2, 3), MakePoint(3, 2)}).ok());
  EXPECT_EQ(Acknowledged(), 3);
  EXPECT_EQ(Status(a).metric_count(), 3);
  EXPECT_EQ(Status(a).progress().step(), 3);
  EXPECT_EQ(Status(a).progress().loss(), 2);
  // 97 steps of 10 tokens at 100 tokens a second.
  EXPECT_DOUBLE_EQ(Status(a).progress().eta_seconds(), 9.7);
}

TEST_F(MetricsTest, AtMostOneWritePerJobAndSecondAndNothingIsLost) {
  const std::string a = Run();
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4)}).ok());
  h.now -= h.options.metrics_interval;  // The next report comes in the same second.
  ASSERT_TRUE(SayMetrics(2, {MakePoint(2, 3)}).ok());
  EXPECT_EQ(Acknowledged(), 1);
  ASSERT_TRUE(SayMetrics(2, {MakePoint(2, 3)}).ok());
  EXPECT_EQ(Acknowledged(), 2);
  // The last words of an attempt are taken at once.
  h.now -= h.options.metrics_interval;
  ASSERT_TRUE(SayMetrics(3, {MakePoint(3, 2)}, kLeft).ok());
  EXPECT_EQ(Status(a).metric_count(), 3);
}

TEST_F(MetricsTest, ACheckpointBringsThePointsOfItsStepsAlsoInTheSameSecond) {
  const std::string a = Run();
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4)}).ok());
  v1::AttemptReport report = Harness::Report(held, kTraining, 2);
  report.set_first_metric_n(2);
  *report.add_metrics() = MakePoint(2, 3);
  report.mutable_checkpoint()->set_step(2);
  report.mutable_checkpoint()->set_manifest_digest(FakeDigest(2));
  ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  EXPECT_EQ(Acknowledged(), 2);
  // The next attempt begins with step 3, so nobody would say point 2 again.
  RestartWorker();
  EXPECT_EQ(Status(a).checkpoint().step(), 2);
  EXPECT_EQ(Status(a).metric_count(), 2);
}

TEST_F(MetricsTest, ACheckpointThatIsNotTakenDoesNotHurryThePoints) {
  const std::string a = Run();
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4)}).ok());
  v1::AttemptReport report = Harness::Report(held, kTraining, 2);
  report.set_first_metric_n(2);
  *report.add_metrics() = MakePoint(2, 3);
  report.mutable_checkpoint()->set_step(2);
  report.mutable_checkpoint()->set_manifest_digest("no digest");
  ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  EXPECT_EQ(Acknowledged(), 1);
  EXPECT_FALSE(Status(a).has_checkpoint());
}

TEST_F(MetricsTest, AStepRepeatedByTheNextAttemptIsDroppedIfEqualAndRaisesOneAlertIfNot) {
  const std::string a = Run();
  ASSERT_TRUE(SayCheckpoint(1).ok());
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4), MakePoint(2, 3), MakePoint(3, 2)}).ok());
  RestartWorker();
  ASSERT_TRUE(SayMetrics(1, {MakePoint(2, 3)}).ok());
  EXPECT_EQ(Status(a).progress().step(), 2);
  const size_t shown = h.Shown(a).size();
  ASSERT_TRUE(SayMetrics(2, {MakePoint(3, 2.5)}).ok());
  ASSERT_TRUE(SayMetrics(3, {MakePoint(3, 2.25)}).ok());
  EXPECT_EQ(Status(a).metric_count(), 3);
  ASSERT_EQ(h.Shown(a).size(), shown + 1);
  EXPECT_EQ(h.Shown(a).back().level(), v1::JobEvent::ALERT);
  EXPECT_EQ(h.Shown(a).back().type(), v1::JobEvent::METRICS_DIFFER);
  EXPECT_EQ(h.Shown(a).back().step(), 3);
}

TEST_F(MetricsTest, AStepRepeatedInAnotherNumericsClassMayDiffer) {
  const std::string a = Run();
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4), MakePoint(2, 3)}).ok());
  LoseWorker();
  h.now += absl::Hours(1);
  FakeWorker other("other");
  other.environment.set_numerics_class("cpu-amx-f32");
  worker = other;
  ASSERT_TRUE(h.Sync(&worker).ok());
  ASSERT_EQ(worker.answer.assignments_size(), 1);
  held = worker.answer.assignments(0);
  ASSERT_TRUE(SayMetrics(1, {MakePoint(1, 4.5), MakePoint(2, 3.5), MakePoint(3, 2.5)}).ok());
  EXPECT_EQ(Status(a).metric_count(), 3);
  EXPECT_EQ(Status(a).progress().loss(), 2.5);
  for (const v1::JobEvent& event : h.Shown(a)) EXPECT_NE(event.level(), v1::JobEvent::ALERT);
  EXPECT_TRUE(Status(a).exact());  // Nothing of the other class is in the result.
}

TEST_F(MetricsTest, LinesOfLogBecomeEventsOnceEach) {
  const std::string a = Run();
  const size_t before = h.Shown(a).size();
  v1::AttemptReport report = Harness::Report(held, kTraining, 1);
  report.set_first_log_n(1);
  for (const char* line : {"one", "two"}) report.add_logs()->set_message(line);
  for (int i = 0; i < 3; ++i) {
    h.now += absl::Seconds(1);
    ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  }
  ASSERT_EQ(h.Shown(a).size(), before + 2);
  EXPECT_EQ(h.Shown(a).back().message(), "two");
  EXPECT_EQ(worker.answer.assignments(0).logs_acknowledged_n(), 2);
}

class ShortLogTest : public ProtocolTest {
 protected:
  ShortLogTest()
      : ProtocolTest([] {
          Options options;
          options.log_lines_max = 2;
          return options;
        }()) {}
};

TEST_F(ShortLogTest, LinesBeyondTheLimitAreAcknowledgedAndDroppedAndAnEventSaysSo) {
  const std::string a = Run();
  const size_t before = h.Shown(a).size();
  v1::AttemptReport report = Harness::Report(held, kTraining, 1);
  report.set_first_log_n(1);
  for (int i = 0; i < 5; ++i) report.add_logs()->set_message("line");
  ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  EXPECT_EQ(h.Shown(a).size(), before + 3);
  EXPECT_THAT(h.Shown(a).back().message(), HasSubstr("more than 2 lines of log"));
  EXPECT_EQ(worker.answer.assignments(0).logs_acknowledged_n(), 5);
}

}  // namespace
}  // namespace deltaworks::scheduler
