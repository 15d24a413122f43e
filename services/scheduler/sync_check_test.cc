// Every field of a report that the core takes for granted, wrong once.

#include "services/scheduler/sync_check.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/scheduler/testing/scripted_worker.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

v1::SyncRequest GoodReport() {
  v1::SyncRequest report = ScriptedWorker("w").NextReport();
  v1::AttemptReport& attempt = *report.add_attempts();
  attempt.set_job("tenants/t/jobs/a");
  attempt.set_lease_epoch(1);
  attempt.set_attempt_id("0123");
  attempt.set_phase(v1::AttemptReport::TRAINING);
  return report;
}

TEST(CheckSyncTest, AReportOfAWorkerPasses) {
  EXPECT_EQ(CheckSync(GoodReport()), absl::OkStatus());
}

TEST(CheckSyncTest, WhatIsMissingOrOutOfBoundsIsNamed) {
  struct Case {
    std::function<void(v1::SyncRequest&, v1::AttemptReport&)> spoil;
    std::string message;
  };
  const std::vector<Case> cases = {
      {[](auto& r, auto&) { r.clear_worker(); }, "worker is"},
      {[](auto& r, auto&) { r.set_worker("tenants/t/workers/w"); }, "worker is"},
      {[](auto& r, auto&) { r.set_incarnation(0); }, "incarnation is 0, want >= 1"},
      {[](auto& r, auto&) { r.set_report_number(0); }, "report_number is 0, want >= 1"},
      {[](auto& r, auto&) { r.mutable_environment()->set_numerics_class(std::string(257, 'x')); },
       "environment.numerics_class has 257 bytes, want at most 256"},
      {[](auto& r, auto&) { r.mutable_environment()->set_gang_size_max(2); },
       "environment.gang_address is empty, want HOST:PORT, since gang_size_max is 2"},
      {[](auto& r, auto&) { r.mutable_environment()->set_gang_address(std::string(257, 'a')); },
       "environment.gang_address has 257 bytes, want at most 256"},
      {[](auto& r, auto&) { r.mutable_environment()->set_gang_size_max(-1); },
       "environment.gang_size_max is -1, want >= 0"},
      {[](auto& r, auto&) { r.mutable_environment()->add_bases_cached("base"); },
       "environment.bases_cached"},
      {[](auto& r, auto& a) {
         for (int i = 0; i < 256; ++i) *r.add_attempts() = a;
       },
       "attempts has 257 entries, want at most 256"},
      {[](auto& r, auto& a) { *r.add_attempts() = v1::AttemptReport(a); },
       "attempts[1].attempt_id is there twice"},
      {[](auto&, auto& a) { a.set_job("a"); }, "attempts[0].job is"},
      {[](auto&, auto& a) { a.clear_lease_epoch(); }, "attempts[0].lease_epoch is 0, want >= 1"},
      {[](auto&, auto& a) { a.clear_attempt_id(); }, "attempts[0].attempt_id is empty"},
      {[](auto&, auto& a) { a.clear_phase(); }, "attempts[0].phase is 0"},
      {[](auto&, auto& a) { a.set_phase(static_cast<v1::AttemptReport::Phase>(99)); },
       "attempts[0].phase is 99"},
      {[](auto&, auto& a) { a.set_step(-1); }, "attempts[0].step is -1, want >= 0"},
      {[](auto&, auto& a) { a.set_tokens_per_second(std::numeric_limits<double>::infinity()); },
       "attempts[0].tokens_per_second"},
      {[](auto&, auto& a) { a.mutable_checkpoint()->set_size_bytes(-1); },
       "attempts[0].checkpoint.size_bytes is -1, want 0..1099511627776"},
      {[](auto&, auto& a) { a.mutable_result()->set_size_bytes(-1); },
       "attempts[0].result.size_bytes is -1, want 0..1099511627776"},
      {[](auto&, auto& a) { a.mutable_result()->set_size_bytes((int64_t{1} << 40) + 1); },
       "attempts[0].result.size_bytes is 1099511627777, want 0..1099511627776"},
      {[](auto&, auto& a) { a.add_metrics(); }, "attempts[0].first_metric_n is 0, want >= 1"},
      {[](auto&, auto& a) {
         for (int i = 0; i < 4097; ++i) a.add_metrics();
       },
       "attempts[0].metrics has 4097 entries, want at most 4096"},
      {[](auto&, auto& a) {
         a.set_first_metric_n(1);
         a.add_metrics();
         a.add_metrics()->set_step(-1);
       },
       "attempts[0].metrics.step is -1, want >= 0"},
      {[](auto&, auto& a) { a.add_logs(); }, "attempts[0].first_log_n is 0, want >= 1"},
  };
  for (const Case& c : cases) {
    v1::SyncRequest report = GoodReport();
    c.spoil(report, *report.mutable_attempts(0));
    const absl::Status status = CheckSync(report);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace deltaworks::services
