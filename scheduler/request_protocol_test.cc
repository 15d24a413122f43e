// Requests that come twice, and a queue that is full.

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

TEST_F(ProtocolTest, TheSameRequestIdGivesOneJobAlsoAcrossARestart) {
  v1::CreateJobRequest request = MakeCreateRequest("");
  request.set_request_id("r1");
  const auto first = h.Execute(request);
  ASSERT_TRUE(first.ok());
  h.Tick();
  const size_t events = h.log.size();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(h.Execute(request)->job, first->job);
  h.Restart();
  EXPECT_EQ(h.Execute(request)->job, first->job);
  h.Commit();
  EXPECT_EQ(h.log.size(), events + 1);  // The start.
  EXPECT_EQ(h.scheduler->state()->jobs().size(), 1);
}

TEST_F(ProtocolTest, AnotherBodyUnderTheSameIdIsRefusedNamingTheField) {
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.set_request_id("r1");
  ASSERT_TRUE(h.Execute(request).ok());
  request.mutable_job()->mutable_train()->mutable_arguments()->set_max_steps(7);
  const absl::Status status = h.Execute(request).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("job.train.arguments"));
  h.Commit();
}

TEST_F(ProtocolTest, ARefusedRequestIsNotKept) {
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.set_request_id("r1");
  request.mutable_job()->mutable_train()->mutable_lora()->set_rank(0);
  EXPECT_TRUE(absl::IsInvalidArgument(h.Execute(request).status()));
  request.mutable_job()->mutable_train()->mutable_lora()->set_rank(4);
  EXPECT_TRUE(h.Execute(request).ok());
  h.Commit();
}

TEST_F(ProtocolTest, ACancelThatIsRepeatedAfterTheJobEndedStillSucceeds) {
  const std::string a = Run();
  v1::PauseJobRequest pause;
  pause.set_name(a);
  pause.set_request_id("p1");
  ASSERT_TRUE(h.Execute(pause).ok());
  ASSERT_TRUE(SayResult().ok());
  h.AnswerVersion(a);
  EXPECT_EQ(h.Execute(pause)->job, a);  // Without the id it would be refused.
  pause.clear_request_id();
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Execute(pause).status()));
}

TEST_F(ProtocolTest, AJobIdThatIsTakenIsRefused) {
  h.Submit("a");
  EXPECT_TRUE(absl::IsAlreadyExists(h.Execute(MakeCreateRequest("a")).status()));
}

class SmallQueueTest : public ProtocolTest {
 protected:
  SmallQueueTest()
      : ProtocolTest([] {
          Options options;
          options.active_jobs_max = 2;
          return options;
        }()) {}
};

TEST_F(SmallQueueTest, AFullQueueRefusesWithItsBoundAndARepetitionOfAnAcceptedRequestIsAnswered) {
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.set_request_id("r1");
  ASSERT_TRUE(h.Execute(request).ok());
  const std::string b = h.Submit("b");
  const absl::Status status = h.Execute(MakeCreateRequest("c")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("want fewer than 2"));
  EXPECT_TRUE(h.Execute(request).ok());
  ASSERT_TRUE(h.Cancel(b).ok());
  EXPECT_TRUE(h.Execute(MakeCreateRequest("c")).ok());
  h.Commit();
}

TEST_F(ProtocolTest, ARerunIsANewJobOfTheSameTask) {
  v1::CreateJobRequest create = MakeCreateRequest("a");
  create.mutable_job()->set_display_name("mine");
  create.mutable_job()->set_priority_class(v1::HIGH);
  (*create.mutable_job()->mutable_labels())["sweep"] = "7";
  create.mutable_job()->mutable_timing()->mutable_time_limit()->set_seconds(60);
  *create.mutable_job()->mutable_timing()->mutable_deadline() = ToProto(h.now + absl::Hours(1));
  const std::string a = h.Submit(create);
  v1::RerunJobRequest rerun;
  rerun.set_name(a);
  rerun.set_request_id("again");
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Execute(rerun).status()));
  ASSERT_TRUE(h.Cancel(a).ok());
  const auto made = h.Execute(rerun);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_NE(made->job, a);
  const v1::Job& job = h.Record(made->job).job();
  EXPECT_EQ(job.status().state(), v1::VALIDATING);
  EXPECT_EQ(job.parent_job(), a);
  EXPECT_EQ(job.display_name(), "mine");
  EXPECT_EQ(job.priority_class(), v1::HIGH);
  EXPECT_EQ(job.labels().at("sweep"), "7");
  EXPECT_EQ(job.timing().time_limit().seconds(), 60);
  EXPECT_FALSE(job.timing().has_deadline());
  EXPECT_EQ(job.train().SerializeAsString(), h.Record(a).job().train().SerializeAsString());
  EXPECT_FALSE(job.has_end_time());

  EXPECT_EQ(h.Execute(rerun)->job, made->job);  // Repeated.
  rerun.set_job_id("other");
  EXPECT_TRUE(absl::IsAlreadyExists(h.Execute(rerun).status()));
  rerun.set_request_id("");
  EXPECT_EQ(h.Execute(rerun)->job, JobName("other"));
  rerun.set_name(JobName("nobody"));
  EXPECT_TRUE(absl::IsNotFound(h.Execute(rerun).status()));
}

}  // namespace
}  // namespace deltaworks::scheduler
