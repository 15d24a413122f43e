// What operators ask: quotas, cordoned and drained workers.

#include <limits>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

class OperatorTest : public ProtocolTest {
 protected:
  static v1::SetQuotaRequest Quota(int64_t guaranteed, int64_t limit, double weight = 1,
                                   const std::string& name = "tenants/t/quota") {
    v1::SetQuotaRequest request;
    request.mutable_quota()->set_name(name);
    request.mutable_quota()->set_guaranteed_devices(guaranteed);
    if (limit >= 0) request.mutable_quota()->set_limit_devices(limit);
    request.mutable_quota()->set_weight(weight);
    return request;
  }

  absl::Status SetMode(v1::WorkerMode mode, const std::string& name = "workers/w") {
    v1::SetWorkerModeRequest request;
    request.set_worker(name);
    request.set_mode(mode);
    const absl::Status status = h.Execute(request).status();
    h.Tick();
    return status;
  }

  const v1::Quota& Stored() const { return h.scheduler->state()->quotas().at("t"); }
};

TEST_F(OperatorTest, AQuotaThatDoesNotAddUpIsRefusedWithTheNumbers) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    v1::SetQuotaRequest request;
    absl::StatusCode code;
    const char* message;
  };
  const Case cases[] = {
      {Quota(3, 2), absl::StatusCode::kInvalidArgument,
       "quota.limit_devices is 2, want at least quota.guaranteed_devices, 3"},
      {Quota(-1, 2), absl::StatusCode::kInvalidArgument, "guaranteed_devices is -1, want >= 0"},
      {Quota(0, -1, -1), absl::StatusCode::kInvalidArgument, "weight is -1, want > 0"},
      {Quota(0, -1, kNan), absl::StatusCode::kInvalidArgument, "weight is nan, want > 0"},
      {Quota(0, -1, 1, "tenants/t"), absl::StatusCode::kInvalidArgument,
       "quota.name is \"tenants/t\", want tenants/{tenant}/quota"},
      {Quota(2, -1), absl::StatusCode::kFailedPrecondition,
       "guaranteed devices of all tenants would be 2, want at most 1"},
  };
  ASSERT_TRUE(h.Sync(&worker).ok());
  for (const Case& c : cases) {
    const absl::Status status = h.Execute(c.request).status();
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
  EXPECT_TRUE(h.scheduler->state()->quotas().empty());
  ASSERT_TRUE(h.Execute(Quota(1, -1)).ok());
  // That of all tenants together.
  EXPECT_THAT(std::string(h.Execute(Quota(1, 1, 1, "tenants/u/quota")).status().message()),
              HasSubstr("would be 2, want at most 1"));
  v1::SetQuotaRequest forced = Quota(1, 1, 1, "tenants/u/quota");
  forced.set_force(true);
  EXPECT_TRUE(h.Execute(forced).ok());
}

TEST_F(OperatorTest, AQuotaIsReplacedOnlyByWhoHasReadIt) {
  ASSERT_TRUE(h.Execute(Quota(0, 5)).ok());
  const std::string etag = Stored().etag();
  v1::SetQuotaRequest change = Quota(0, 6);
  change.mutable_quota()->set_etag(etag);
  ASSERT_TRUE(h.Execute(change).ok());
  EXPECT_EQ(Stored().limit_devices(), 6);
  EXPECT_NE(Stored().etag(), etag);
  // The answer was lost: the same again is what is there already.
  const int64_t events = h.scheduler->state()->event_count();
  EXPECT_TRUE(h.Execute(change).ok());
  EXPECT_EQ(h.scheduler->state()->event_count(), events);

  v1::SetQuotaRequest other = Quota(0, 7);
  other.mutable_quota()->set_etag(etag);
  EXPECT_TRUE(absl::IsAborted(h.Execute(other).status()));
  EXPECT_EQ(Stored().limit_devices(), 6);
  h.Commit();
  h.Restart();
  EXPECT_EQ(Stored().limit_devices(), 6);
}

TEST_F(OperatorTest, ACordonedWorkerGoesOnAndTakesNothingNew) {
  const std::string a = Run("a");
  ASSERT_TRUE(SetMode(v1::WORKER_CORDONED).ok());
  const std::string b = h.Submit("b");
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(h.Record(a).current().ordered(), v1::Assignment::DESIRED_UNSPECIFIED);
  ASSERT_TRUE(h.Cancel(a).ok());
  ASSERT_TRUE(Say(kLeft).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(b).reason(), v1::NO_WORKER_ONLINE);
  h.Commit();
  h.Restart();  // It stays so.
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
  ASSERT_TRUE(SetMode(v1::WORKER_ACTIVE).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::RUNNING);
}

TEST_F(OperatorTest, ADrainedWorkerHandsItsJobsBackAtNoCost) {
  const std::string a = Run("a");
  ASSERT_TRUE(SetMode(v1::WORKER_DRAINED).ok());
  EXPECT_EQ(h.Record(a).current().ordered(), v1::Assignment::YIELD);
  ASSERT_TRUE(SetMode(v1::WORKER_DRAINED).ok());
  ASSERT_TRUE(SayCheckpoint(7, kLeft).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
  EXPECT_EQ(Status(a).reason(), v1::DRAINED);
  EXPECT_EQ(Status(a).retries_used(), 0);
  FakeWorker other("other");
  ASSERT_TRUE(h.Sync(&other).ok());
  EXPECT_EQ(h.Record(a).current().worker(), "workers/other");
}

TEST_F(OperatorTest, AModeNeedsAWorkerAndAValue) {
  EXPECT_TRUE(absl::IsNotFound(SetMode(v1::WORKER_CORDONED)));
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(SetMode(v1::WORKER_MODE_UNSPECIFIED)));
  EXPECT_TRUE(absl::IsInvalidArgument(SetMode(static_cast<v1::WorkerMode>(9))));
}

}  // namespace
}  // namespace deltaworks::scheduler
