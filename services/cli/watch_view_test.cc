// What a watcher sees: a block that fits its terminal, plain lines elsewhere, and bounded memory
// however long the run is.

#include "services/cli/watch_view.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/format.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::WatchJobResponse Response(v1::JobState state, int64_t first_step, int64_t last_step) {
  v1::WatchJobResponse response;
  response.mutable_job()->set_name("tenants/default/jobs/job-7");
  v1::JobStatus& status = *response.mutable_job()->mutable_status();
  status.set_state(state);
  status.mutable_progress()->set_step(last_step);
  status.mutable_progress()->set_total_steps(200);
  status.mutable_progress()->set_eta_seconds(90);
  for (int64_t step = first_step; step <= last_step; ++step) {
    v1::MetricPoint& point = *response.add_metrics();
    point.set_step(step);
    point.set_loss(5.0 - 0.01 * static_cast<double>(step));
    point.set_tokens_per_second(1234.4);
    point.set_tokens(step * 1000);
  }
  return response;
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

TEST(WatchViewTest, TheBlockShowsStepLossSpeedTimeLeftAndASparkline) {
  WatchView view(/*color=*/false, 80);
  view.Take(Response(v1::RUNNING, 1, 50));
  const std::string block = view.Block();
  EXPECT_THAT(block, HasSubstr("job-7  RUNNING"));
  EXPECT_THAT(block, HasSubstr("25 %  step 50/200  ETA 1 min 30 s"));
  EXPECT_THAT(block, HasSubstr("loss 4.5000"));
  EXPECT_THAT(block, HasSubstr("1,234 tokens/s  50,000 tokens"));
  EXPECT_THAT(block, HasSubstr("█"));
  EXPECT_THAT(block, HasSubstr("▁\n"));
}

TEST(WatchViewTest, ALineOfTheBlockNeverWraps) {
  for (const int64_t width : {20, 40, 80}) {
    WatchView view(false, width);
    v1::WatchJobResponse response = Response(v1::FAILED, 1, 200);
    response.mutable_job()->mutable_status()->mutable_failure()->set_message(std::string(300, 'x') +
                                                                             "\nand a second line");
    view.Take(response);
    for (const std::string& line : Lines(view.Block())) EXPECT_LT(DisplayWidth(line), width);
  }
}

TEST(WatchViewTest, AWaitingJobTellsItsPlaceAndWhy) {
  WatchView view(false, 80);
  v1::WatchJobResponse response = Response(v1::QUEUED, 1, 0);
  v1::Waiting& waiting = *response.mutable_job()->mutable_status()->mutable_waiting();
  waiting.set_queue_position(3);
  waiting.set_message("waits for a worker with label zone=a");
  view.Take(response);
  EXPECT_THAT(view.Block(),
              HasSubstr("place 3 in the queue: waits for a worker with label zone=a"));
}

TEST(WatchViewTest, EvaluationsShowWhereTheyBegan) {
  WatchView view(false, 80);
  v1::WatchJobResponse first = Response(v1::RUNNING, 1, 0);
  first.add_metrics()->set_eval_loss(4.03);
  EXPECT_THAT(view.Take(first), HasSubstr("step 0/200  eval loss 4.0300"));
  v1::WatchJobResponse last = Response(v1::RUNNING, 1, 200);
  last.mutable_metrics(199)->set_eval_loss(2.57);
  view.Take(last);
  EXPECT_THAT(view.Block(), HasSubstr("eval loss 2.5700 (4.0300 before)"));
}

TEST(WatchViewTest, WithoutATerminalAboutTwentyLinesTellTheRun) {
  WatchView view(false, 80);
  const std::vector<std::string> lines = Lines(view.Take(Response(v1::RUNNING, 1, 200)));
  EXPECT_GE(lines.size(), 20);
  EXPECT_LE(lines.size(), 22);
  EXPECT_THAT(lines.front(), HasSubstr("step 1/200"));
  EXPECT_THAT(lines.back(), HasSubstr("step 200/200"));
}

TEST(WatchViewTest, ALongRunGetsALineEveryHalfMinute) {
  WatchView view(false, 80);
  v1::WatchJobResponse response = Response(v1::RUNNING, 1, 100);
  response.mutable_job()->mutable_status()->mutable_progress()->set_total_steps(1'000'000);
  for (int i = 0; i < 100; ++i) {
    response.mutable_metrics(i)->mutable_time()->set_seconds(1'704'067'000 + i);
  }
  // Steps 1, 31, 61 and 91, a second each.
  EXPECT_EQ(Lines(view.Take(response)).size(), 4);
}

TEST(WatchViewTest, ARunThatWentBackToACheckpointGoesOnBeingShown) {
  WatchView view(false, 80);
  view.Take(Response(v1::RUNNING, 1, 100));
  EXPECT_THAT(view.Take(Response(v1::RUNNING, 101, 120)), HasSubstr("step 1"));
}

TEST(WatchViewTest, EventsSayWhatHappenedAndCannotDriveTheTerminal) {
  WatchView view(false, 80);
  v1::WatchJobResponse response = Response(v1::QUEUED, 1, 0);
  v1::JobEvent& event = *response.add_events();
  event.set_type(v1::JobEvent::STATE_CHANGED);
  event.set_state(v1::QUEUED);
  event.set_reason(v1::WORKER_LOST);
  v1::JobEvent& log = *response.add_events();
  log.set_type(v1::JobEvent::WORKER_LOG);
  log.set_level(v1::JobEvent::WARNING);
  log.set_message("evil \x1b[2J text");
  const std::string lines = view.Take(response);
  EXPECT_THAT(lines, HasSubstr("QUEUED (worker lost)"));
  EXPECT_THAT(lines, HasSubstr("worker log: evil ?[2J text"));
  EXPECT_THAT(lines + view.Block(), Not(HasSubstr("\x1b")));
}

TEST(LossHistoryTest, MemoryIsBoundedAndTheShapeStays) {
  LossHistory history;
  for (int i = 0; i < 1'000'000; ++i) history.Add(1'000'000 - i);
  EXPECT_LT(history.values().size(), 4096);
  EXPECT_GE(history.values().size(), 2000);
  EXPECT_TRUE(std::is_sorted(history.values().rbegin(), history.values().rend()));
  EXPECT_NEAR(history.values().front(), 1'000'000, 1000);
}

}  // namespace
}  // namespace deltaworks::services
