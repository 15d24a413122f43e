// A report under way is given up at once, also one of which the client has not heard yet; otherwise
// urgent news would wait until the scheduler answers the one before.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/worker/report_channel.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;

// A scheduler that holds every report open: a Sync ends when it is cancelled, never by itself.
// A test may keep reports from beginning.
class HoldingClient final : public WorkerSyncClient {
 public:
  absl::StatusOr<v1::SyncResponse> Sync(const v1::SyncRequest& request, absl::Duration) override {
    MutexLock lock(&mutex_);
    called_ = request.report_number();
    changed_.SignalAll();
    while (called_ > may_begin_) changed_.Wait(&mutex_);
    const int64_t report = request.report_number();
    if (report == answered_) return v1::SyncResponse();
    if (report > cancelled_) held_.push_back(report);
    while (report > cancelled_) changed_.Wait(&mutex_);
    return absl::CancelledError("cancelled");
  }
  void CancelSync(int64_t report_number) override {
    MutexLock lock(&mutex_);
    cancelled_ = report_number;
    changed_.SignalAll();
  }

  // Reports up to this one begin.
  void Let(int64_t report_number) {
    MutexLock lock(&mutex_);
    may_begin_ = report_number;
    changed_.SignalAll();
  }
  void AnswerAtOnce(int64_t report_number) {
    MutexLock lock(&mutex_);
    answered_ = report_number;
  }
  // Sync() was entered for this report.
  void WaitUntilCalled(int64_t report_number) {
    MutexLock lock(&mutex_);
    while (called_ < report_number) changed_.Wait(&mutex_);
  }
  std::vector<int64_t> held() {
    MutexLock lock(&mutex_);
    return held_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int64_t called_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t may_begin_ ABSL_GUARDED_BY(mutex_) = 100;
  int64_t answered_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<int64_t> held_ ABSL_GUARDED_BY(mutex_);
};

// Where a report's `done` goes.
struct Outcome {
  ReportChannel::Done Done() {
    return [this](absl::StatusOr<v1::SyncResponse> answer) {
      status = answer.status();
      over.Notify();
    };
  }
  absl::Status status;
  absl::Notification over;
};

v1::SyncRequest Report(int64_t number) {
  v1::SyncRequest request;
  request.set_report_number(number);
  return request;
}

TEST(ReportThreadTest, AReportIsAnswered) {
  HoldingClient client;
  client.AnswerAtOnce(1);
  Outcome first;
  ReportThread reports(client);
  reports.Send(Report(1), absl::Seconds(10), first.Done());
  first.over.WaitForNotification();
  EXPECT_TRUE(first.status.ok()) << first.status;
}

TEST(ReportThreadTest, ANewerReportGivesUpTheOneThatTheSchedulerHolds) {
  HoldingClient client;
  client.AnswerAtOnce(2);
  Outcome first, second;
  ReportThread reports(client);
  reports.Send(Report(1), absl::Seconds(10), first.Done());
  client.WaitUntilCalled(1);
  reports.Send(Report(2), absl::Seconds(10), second.Done());
  second.over.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(first.status)) << first.status;
  EXPECT_TRUE(second.status.ok()) << second.status;
}

TEST(ReportThreadTest, AReportGivenUpBeforeItBeginsIsNotHeldAndTheNextOneIsNotCancelled) {
  HoldingClient client;
  client.AnswerAtOnce(2);
  client.Let(0);
  Outcome first, second;
  ReportThread reports(client);
  reports.Send(Report(1), absl::Seconds(10), first.Done());
  client.WaitUntilCalled(1);
  reports.Send(Report(2), absl::Seconds(10), second.Done());
  client.Let(2);
  second.over.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(first.status)) << first.status;
  EXPECT_TRUE(second.status.ok()) << second.status;
  EXPECT_THAT(client.held(), ElementsAre());
}

TEST(ReportThreadTest, OneThatWaitsForItsTurnIsGivenUpToo) {
  HoldingClient client;
  client.Let(0);
  Outcome first, second;
  ReportThread reports(client);
  reports.Send(Report(1), absl::Seconds(10), first.Done());
  client.WaitUntilCalled(1);
  reports.Send(Report(2), absl::Seconds(10), second.Done());
  reports.GiveUp();
  second.over.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(second.status)) << second.status;
  client.Let(2);
  first.over.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(first.status)) << first.status;
}

TEST(ReportThreadTest, ItsEndDoesNotWaitForAReportThatHadNotBegun) {
  HoldingClient client;
  client.Let(0);
  Outcome first;
  auto reports = std::make_unique<ReportThread>(client);
  reports->Send(Report(1), absl::Seconds(10), first.Done());
  client.WaitUntilCalled(1);
  reports->GiveUp();
  client.Let(1);
  reports.reset();
  EXPECT_TRUE(absl::IsCancelled(first.status)) << first.status;
  EXPECT_THAT(client.held(), ElementsAre());
}

}  // namespace
}  // namespace deltaworks::services
