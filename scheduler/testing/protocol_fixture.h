// The fixture of the *_protocol_test.cc: one worker, and short names for what it says. Every test
// ends by folding the stored events from nothing: the result must be the state that it left.

#ifndef DELTAWORKS_SCHEDULER_TESTING_PROTOCOL_FIXTURE_H_
#define DELTAWORKS_SCHEDULER_TESTING_PROTOCOL_FIXTURE_H_

#include <string>

#include "absl/status/status.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"

namespace deltaworks::scheduler {

inline constexpr auto kTraining = v1::AttemptReport::TRAINING;
inline constexpr auto kLeft = v1::AttemptReport::LEFT;
inline constexpr auto kFailed = v1::AttemptReport::FAILED;
inline constexpr auto kDone = v1::AttemptReport::DONE;

class ProtocolTest : public ::testing::Test {
 protected:
  explicit ProtocolTest(Options options = Options()) : h(options) {}

  void TearDown() override {
    h.Commit();
    EXPECT_EQ(h.LiveBytes(), h.ReplayedBytes());
  }

  // Submits a job, with `worker` online, and lets the worker take it up.
  std::string Run(const std::string& id = "a") {
    CHECK(h.Sync(&worker).ok());
    const std::string job = h.Submit(id);
    CHECK(h.Sync(&worker).ok());
    CHECK_EQ(worker.answer.assignments_size(), 1);
    held = worker.answer.assignments(0);
    CHECK(h.Sync(&worker, {Harness::Report(held, kTraining, 0)}).ok());
    return job;
  }

  absl::Status Say(v1::AttemptReport::Phase phase, int64_t step = 1) {
    return h.Sync(&worker, {Harness::Report(held, phase, step)});
  }

  absl::Status SayCheckpoint(int64_t step, v1::AttemptReport::Phase phase = kTraining) {
    v1::AttemptReport report = Harness::Report(held, phase, step);
    report.mutable_checkpoint()->set_step(step);
    report.mutable_checkpoint()->set_manifest_digest(FakeDigest(step));
    return h.Sync(&worker, {report});
  }

  v1::AttemptReport ResultReport(int64_t manifest = 77) const {
    v1::AttemptReport report = Harness::Report(held, kDone, 100);
    report.mutable_result()->set_manifest_digest(FakeDigest(manifest));
    report.mutable_result()->set_adapter_digest(FakeDigest(manifest + 1));
    report.mutable_result()->set_step(100);
    return report;
  }

  absl::Status SayResult(int64_t manifest = 77) {
    return h.Sync(&worker, {ResultReport(manifest)});
  }

  absl::Status SayFailure(const std::string& code, v1::Failure::Fault fault) {
    v1::AttemptReport report = Harness::Report(held, kFailed, 1);
    report.mutable_failure()->set_code(code);
    report.mutable_failure()->set_message("what happened");
    report.mutable_failure()->set_fault(fault);
    return h.Sync(&worker, {report});
  }

  // The worker process dies and comes back: a higher incarnation, which holds nothing.
  void RestartWorker() {
    ++worker.incarnation;
    worker.report_number = 0;
    CHECK(h.Sync(&worker).ok());
    if (worker.answer.assignments_size() > 0) held = worker.answer.assignments(0);
  }

  // Lets the lease of the current attempt end.
  void LoseWorker() { h.Advance(h.options.lease_duration); }

  v1::JobStatus Status(const std::string& job) const { return h.Record(job).job().status(); }

  Harness h;
  FakeWorker worker{"w"};
  v1::Assignment held;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_TESTING_PROTOCOL_FIXTURE_H_
