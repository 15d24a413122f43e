// From a result to a version, once.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"
#include "scheduler/version_request.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(ProtocolTest, AResultIsAcceptedOnlyFromTheCurrentAttempt) {
  const std::string a = Run();
  LoseWorker();
  ASSERT_TRUE(SayResult().ok());
  EXPECT_NE(h.StateOfJob(a), v1::FINALIZING);
  EXPECT_FALSE(worker.answer.assignments(1).result_accepted());
}

TEST_F(ProtocolTest, ARepeatedReportOfTheAcceptedManifestIsAnsweredOkAlsoAfterTheLeaseEnded) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  h.Advance(h.options.lease_duration * 2);
  h.Restart();
  ASSERT_TRUE(SayResult().ok());
  EXPECT_TRUE(worker.answer.assignments(0).result_accepted());
  EXPECT_FALSE(worker.answer.assignments(0).job_final());
  ASSERT_TRUE(SayResult(/*manifest=*/78).ok());
  EXPECT_FALSE(worker.answer.assignments(0).result_accepted());
  h.AnswerVersion(a);
  ASSERT_TRUE(SayResult().ok());
  EXPECT_TRUE(worker.answer.assignments(0).job_final());
}

TEST_F(ProtocolTest, ARestartFindsFinalizingJobsAndFinishesThem) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  h.Restart();
  h.Tick();
  EXPECT_THAT(h.WantVersions(), ElementsAre(a));
  h.AnswerVersion(a);
  EXPECT_EQ(h.StateOfJob(a), v1::SUCCEEDED);
}

TEST_F(ProtocolTest, TheRequestForAVersionIsTheSameEachTimeAndKeyedByTheJob) {
  const std::string a = Run();
  worker.environment.set_build_version("1.2.3");
  ASSERT_TRUE(SayResult().ok());
  const v1::CreateVersionRequest first = MakeVersionRequest(h.Record(a));
  EXPECT_EQ(first.parent(), "tenants/t/adapters/a");
  EXPECT_EQ(first.adapter_version().source().job(), a);
  EXPECT_TRUE(first.adapter_version().source().result());
  EXPECT_EQ(first.adapter_version().manifest_digest(), FakeDigest(77));
  EXPECT_TRUE(first.adapter_version().exact());
  EXPECT_EQ(first.adapter_version().build_version(), "1.2.3");
  h.Restart();
  EXPECT_EQ(DeterministicBytes(MakeVersionRequest(h.Record(a))), DeterministicBytes(first));
}

TEST_F(ProtocolTest, FinalizingFailsOnlyOnADurableRefusal) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  for (const absl::Status& passing :
       {absl::UnavailableError("away"), absl::DeadlineExceededError("slow"),
        absl::InternalError("bug"), absl::ResourceExhaustedError("full")}) {
    ASSERT_TRUE(h.Execute(VersionAnswer{.job = a, .version = passing}).ok());
    EXPECT_EQ(h.StateOfJob(a), v1::FINALIZING) << passing;
  }
  v1::AdapterVersion rejected;
  rejected.set_state(v1::AdapterVersion::REJECTED);
  rejected.set_manifest_digest(FakeDigest(77));
  rejected.mutable_failure()->set_code("VERSION_REFUSED");
  rejected.mutable_failure()->set_message("lora_A has a NaN");
  ASSERT_TRUE(h.Execute(VersionAnswer{.job = a, .version = rejected}).ok());
  h.Commit();
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  EXPECT_THAT(Status(a).failure().message(), HasSubstr("lora_A has a NaN"));
}

TEST_F(ProtocolTest, AnotherManifestUnderTheSameKeyIsAnErrorAndAnAlert) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  ASSERT_TRUE(
      h.Execute(VersionAnswer{.job = a, .version = absl::AlreadyExistsError("has manifest x")})
          .ok());
  h.Commit();
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  const std::vector<v1::JobEvent> shown = h.Shown(a);
  EXPECT_EQ(shown[shown.size() - 2].type(), v1::JobEvent::VERSION_CONFLICT);
  EXPECT_EQ(shown[shown.size() - 2].level(), v1::JobEvent::ALERT);
}

TEST_F(ProtocolTest, MissingBlobsAreAskedForAgainAndTheVersionIsMadeAfterwards) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  const absl::Status missing =
      absl::FailedPreconditionError(absl::StrCat("missing blobs: ", FakeDigest(5)));
  ASSERT_TRUE(h.Execute(VersionAnswer{.job = a, .version = missing}).ok());
  h.Tick();
  EXPECT_THAT(h.WantVersions(), IsEmpty());
  ASSERT_TRUE(Say(kDone, 100).ok());  // Holds its files; has not uploaded yet.
  EXPECT_THAT(worker.answer.assignments(0).missing_blobs(), ElementsAre(FakeDigest(5)));
  ASSERT_TRUE(SayResult().ok());
  EXPECT_THAT(h.WantVersions(), ElementsAre(a));
  EXPECT_THAT(worker.answer.assignments(0).missing_blobs(), IsEmpty());
}

TEST_F(ProtocolTest, ALateAnswerOfTheRegistryChangesNothing) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  h.AnswerVersion(a);
  const size_t events = h.log.size();
  h.AnswerVersion(a);
  ASSERT_TRUE(h.Execute(VersionAnswer{.job = a, .version = absl::AlreadyExistsError("x")}).ok());
  h.Commit();
  EXPECT_EQ(h.log.size(), events);
}

}  // namespace
}  // namespace deltaworks::scheduler
