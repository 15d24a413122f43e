// dw job submit: every field of the contract has a flag of its name, flags go over the file, and
// what is sent is what was said.

#include "services/cli/job_submit.h"

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "services/cli/exit_code.h"
#include "services/cli/testing/cli_world.h"
#include "services/cli/train_flags.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JobSubmitTest : public ::testing::Test {
 protected:
  JobSubmitTest() : world_("submit") {
    world_.Fill();
    world_.training.jobs.clear();
  }

  v1::Job Submit(std::vector<std::string> flags) {
    std::vector<std::string> words = {"job", "submit"};
    words.insert(words.end(), flags.begin(), flags.end());
    const CliWorld::Result result = world_.Run(words);
    EXPECT_EQ(result.code, kExitOk) << result.err;
    EXPECT_EQ(world_.training.jobs.size(), 1);
    return world_.training.jobs.empty() ? v1::Job() : world_.training.jobs.begin()->second;
  }

  CliWorld world_;
};

TEST(JobSubmitFlagsTest, EveryFieldOfTheSpecHasAFlagOfItsName) {
  const std::unique_ptr<Command> command = MakeJobSubmit();
  Arguments arguments;
  command->Declare(arguments);
  std::set<std::string> flags;
  for (const Argument& argument : arguments.all()) flags.insert(argument.name);
  for (const google::protobuf::Descriptor* message :
       {v1::TrainSpec::descriptor(), v1::LoraConfig::descriptor(),
        v1::TrainingArguments::descriptor(), v1::TextSettings::descriptor(),
        v1::Placement::descriptor(), v1::RetryPolicy::descriptor(), v1::Timing::descriptor()}) {
    for (int i = 0; i < message->field_count(); ++i) {
      const google::protobuf::FieldDescriptor& field = *message->field(i);
      const bool is_group = field.message_type() != nullptr && !field.is_map();
      if (!is_group) {
        EXPECT_EQ(flags.count(field.name()), 1) << message->name() << "." << field.name();
      }
    }
  }
}

TEST_F(JobSubmitTest, FlagsBecomeTheFieldsOfTheirNames) {
  const v1::Job job = Submit({"--base_model",
                              "smollm2",
                              "--dataset",
                              "tenants/other/datasets/d",
                              "--validation_dataset",
                              "held-out",
                              "--adapter",
                              "mine",
                              "-r",
                              "16",
                              "--lora-alpha",
                              "32",
                              "--lora_dropout",
                              "0.1",
                              "--target_modules",
                              "q_proj,v_proj",
                              "--rank_pattern",
                              "down_proj=4",
                              "--alpha_pattern",
                              "down_proj=2.5",
                              "--use_rslora",
                              "--learning_rate",
                              "1e-3",
                              "--max_steps",
                              "100",
                              "--per_device_train_batch_size",
                              "4",
                              "--lr_scheduler_type",
                              "cosine",
                              "--warmup_ratio",
                              "0.05",
                              "--seed",
                              "7",
                              "--max_length",
                              "256",
                              "--truncation",
                              "skip",
                              "--compute_type",
                              "f32",
                              "--micro_batch_tokens",
                              "4096",
                              "--priority",
                              "high",
                              "--max_retries",
                              "-1",
                              "--labels",
                              "sweep=a",
                              "--worker_labels",
                              "zone=b",
                              "--device_kind",
                              "cpu",
                              "--memory_bytes_min",
                              "40000000000",
                              "--resume_policy",
                              "exact",
                              "--cohort",
                              "alone",
                              "--gang_size",
                              "2",
                              "--start_after",
                              "2026-12-01T08:00:00Z",
                              "--deadline",
                              "2026-12-01T09:00:00+01:00",
                              "--time_limit",
                              "90m"});
  const v1::TrainSpec& spec = job.train();
  EXPECT_EQ(spec.base_model(), "tenants/default/baseModels/smollm2");
  EXPECT_EQ(spec.dataset(), "tenants/other/datasets/d");
  EXPECT_EQ(spec.validation_dataset(), "tenants/default/datasets/held-out");
  EXPECT_EQ(spec.adapter(), "tenants/default/adapters/mine");
  EXPECT_EQ(spec.lora().rank(), 16);
  EXPECT_EQ(spec.lora().lora_alpha(), 32);
  EXPECT_EQ(spec.lora().lora_dropout(), 0.1);
  EXPECT_THAT(spec.lora().target_modules(), ElementsAre("q_proj", "v_proj"));
  EXPECT_EQ(spec.lora().rank_pattern().at("down_proj"), 4);
  EXPECT_EQ(spec.lora().alpha_pattern().at("down_proj"), 2.5);
  EXPECT_TRUE(spec.lora().use_rslora());
  EXPECT_EQ(spec.arguments().learning_rate(), 1e-3);
  EXPECT_EQ(spec.arguments().max_steps(), 100);
  EXPECT_EQ(spec.arguments().per_device_train_batch_size(), 4);
  EXPECT_EQ(spec.arguments().lr_scheduler_type(), v1::TrainingArguments::COSINE);
  EXPECT_EQ(spec.arguments().warmup_ratio(), 0.05);
  EXPECT_EQ(spec.arguments().seed(), 7);
  EXPECT_FALSE(spec.arguments().has_num_train_epochs()) << "what is not said is not sent";
  EXPECT_EQ(spec.text().max_length(), 256);
  EXPECT_EQ(spec.text().truncation(), v1::TextSettings::SKIP);
  EXPECT_EQ(spec.compute_type(), v1::F32);
  EXPECT_EQ(spec.micro_batch_tokens(), 4096);
  EXPECT_EQ(job.priority_class(), v1::HIGH);
  EXPECT_EQ(job.retry_policy().max_retries(), -1);
  EXPECT_EQ(job.labels().at("sweep"), "a");
  EXPECT_EQ(job.placement().worker_labels().at("zone"), "b");
  EXPECT_EQ(job.placement().device_kind(), "cpu");
  EXPECT_EQ(job.placement().memory_bytes_min(), 40'000'000'000);
  EXPECT_EQ(job.placement().resume_policy(), v1::Placement::EXACT);
  EXPECT_EQ(job.placement().cohort(), v1::Placement::COHORT_ALONE);
  EXPECT_EQ(job.placement().gang_size(), 2);
  EXPECT_EQ(job.timing().start_after().seconds(), 1'796'112'000);
  EXPECT_EQ(job.timing().deadline().seconds(), 1'796'112'000);
  EXPECT_EQ(job.timing().time_limit().seconds(), 5'400);
}

TEST_F(JobSubmitTest, AFileSaysTheJobAndFlagsGoOverIt) {
  const v1::Job job = Submit({"--file", "{}/job.json", "--max_steps", "5"});
  EXPECT_EQ(job.train().lora().rank(), 16) << "PEFT's r";
  EXPECT_EQ(job.train().base_model(), "tenants/default/baseModels/smollm2");
  EXPECT_EQ(job.train().arguments().max_steps(), 5);
  world_.training.jobs.clear();
  EXPECT_EQ(Submit({"--file", "{}/job.json", "--rank", "4"}).train().lora().rank(), 4);
  world_.training.jobs.clear();
  ASSERT_TRUE(WriteFileAtomically(world_.Path("labels.json"), R"({
      "labels": {"team": "a", "kept": "b"}, "placement": {"worker_labels": {"zone": "a"}},
      "train": {"base_model": "smollm2", "dataset": "notes"}})")
                  .ok());
  const v1::Job labelled =
      Submit({"--file", "{}/labels.json", "--labels", "team=c", "--worker_labels", "zone=c"});
  EXPECT_EQ(labelled.labels().at("team"), "c");
  EXPECT_EQ(labelled.labels().at("kept"), "b");
  EXPECT_EQ(labelled.placement().worker_labels().at("zone"), "c");
}

TEST_F(JobSubmitTest, ASwitchOfTheFileCanBeTakenBack) {
  ASSERT_TRUE(WriteFileAtomically(world_.Path("rslora.json"), R"({
      "train": {"base_model": "smollm2", "dataset": "notes", "lora": {"use_rslora": true}}})")
                  .ok());
  EXPECT_TRUE(Submit({"--file", "{}/rslora.json"}).train().lora().use_rslora());
  world_.training.jobs.clear();
  EXPECT_FALSE(
      Submit({"--file", "{}/rslora.json", "--use_rslora=false"}).train().lora().use_rslora());
}

TEST_F(JobSubmitTest, TheSameRequestIdMakesNoSecondJob) {
  const std::vector<std::string> words = {"--file", "{}/job.json", "--request_id", "sweep-2"};
  const v1::Job first = Submit(words);
  EXPECT_EQ(Submit(words).name(), first.name());
  ASSERT_EQ(world_.Run({"job", "submit", "--file", "{}/job.json"}).code, kExitOk);
  EXPECT_EQ(world_.training.jobs.size(), 2) << "each command has an id of its own otherwise";
}

TEST_F(JobSubmitTest, AFileThatIsNoJobIsWrongUse) {
  const std::pair<const char*, const char*> kCases[] = {
      {"{\"train\": ", "bad.json"},
      {"[]", "bad.json"},
      {"{\"train\": {\"lora\": {\"rankk\": 3}}}", "rankk"},
      {"{\"train\": {\"lora\": {\"rank\": 3, \"r\": 3}}}", "has r and rank"},
      {"{\"display_name\": \"x\"}", "no train"},
  };
  for (const auto& [text, error] : kCases) {
    ASSERT_TRUE(WriteFileAtomically(world_.Path("bad.json"), text).ok());
    const CliWorld::Result result = world_.Run({"job", "submit", "--file", "{}/bad.json"});
    EXPECT_EQ(result.code, kExitWrongUse) << text;
    EXPECT_THAT(result.err, HasSubstr(error)) << text;
    EXPECT_TRUE(world_.training.jobs.empty());
  }
}

TEST_F(JobSubmitTest, ANumberThatNoFieldHoldsIsWrongUse) {
  const CliWorld::Result result =
      world_.Run({"job", "submit", "--base_model", "b", "--dataset", "d", "--rank", "5000000000"});
  EXPECT_EQ(result.code, kExitWrongUse);
  EXPECT_THAT(result.err, HasSubstr("--rank is 5000000000, want at most 2147483647"));
}

TEST_F(JobSubmitTest, AnIdThatIsTakenIsRefused) {
  Submit({"--file", "{}/job.json", "--job_id", "twice"});
  const CliWorld::Result result =
      world_.Run({"job", "submit", "--file", "{}/job.json", "--job_id", "twice"});
  EXPECT_EQ(result.code, kExitRefused);
}

class JobEndTest : public ::testing::Test {
 protected:
  JobEndTest() : world_("end") {
    world_.Fill();
    world_.training.watches.clear();
  }

  v1::Job Ended(v1::JobState state) {
    v1::Job job = world_.training.jobs.at("tenants/default/jobs/job-7");
    job.mutable_status()->set_state(state);
    return job;
  }

  CliWorld world_;
};

TEST_F(JobEndTest, TheExitCodeTellsHowItEnded) {
  world_.training.watches.push_back({WatchOfJob(Ended(v1::SUCCEEDED), 3), absl::OkStatus()});
  EXPECT_EQ(world_.Run({"job", "watch", "job-7"}).code, kExitOk);

  v1::Job failed = Ended(v1::FAILED);
  v1::Failure& failure = *failed.mutable_status()->mutable_failure();
  failure.set_code("DIVERGED");
  failure.set_message("loss is nan at step 3");
  failure.set_field("train.arguments.learning_rate");
  failure.set_fault(v1::Failure::USER);
  world_.training.watches.push_back({WatchOfJob(failed, 3), absl::OkStatus()});
  const CliWorld::Result result = world_.Run({"job", "watch", "job-7"});
  EXPECT_EQ(result.code, kExitBadOutcome);
  EXPECT_THAT(result.out, HasSubstr("DIVERGED: loss is nan at step 3 (field "
                                    "train.arguments.learning_rate)"));

  world_.training.watches.push_back({WatchOfJob(Ended(v1::CANCELLED), 3), absl::OkStatus()});
  EXPECT_EQ(world_.Run({"job", "watch", "job-7"}).code, kExitBadOutcome);
}

TEST_F(JobSubmitTest, ADryRunQueuesNothingAndSaysWhatWouldBe) {
  const absl::Time now = world_.clock.Now();
  const auto at = [&](absl::Duration in) {
    google::protobuf::Timestamp time;
    time.set_seconds(absl::ToUnixSeconds(now + in));
    return time;
  };
  v1::JobStatus& status = *world_.training.estimate.mutable_job()->mutable_status();
  status.mutable_facts()->set_total_steps(1'234);
  status.mutable_facts()->set_memory_bytes_max(5'000'000'000);
  status.mutable_estimate()->set_device_ms(90'000);
  status.mutable_estimate()->set_cost(0.125);
  v1::Waiting& waiting = *status.mutable_waiting();
  waiting.set_reason(v1::WORKERS_BUSY);
  waiting.set_message("next in line");
  *waiting.mutable_earliest_start_time() = at(absl::Minutes(2));
  *waiting.mutable_likely_start_time() = at(absl::Minutes(5));
  *waiting.mutable_likely_start_time_max() = at(absl::Minutes(5));
  waiting.add_hints("no worker_labels: 3 workers would do instead of 1");
  *status.mutable_start_bound()->mutable_latest_start_time() = at(absl::Hours(27));
  v1::WorkerKindFit& kind = *world_.training.estimate.add_workers();
  kind.set_device_kind("cpu");
  kind.set_online(4);
  kind.set_taking_jobs(4);
  kind.set_fitting(3);
  kind.set_reason(v1::NO_WORKER_WITH_MEMORY);
  const std::vector<std::string> words = {"job",       "submit", "--base_model", "smollm2",
                                          "--dataset", "notes",  "--dry_run"};
  const CliWorld::Result result = world_.Run(words);
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_TRUE(world_.training.jobs.empty());
  for (const char* part : {"yes; nothing was queued", "1,234", "5.0 GB", "1 min 30 s (a guess",
                           "0.12", "in 5 min 0 s (a worker has room in 2 min 0 s)",
                           "3 workers would do", "next in line", "no worker with memory"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }

  v1::Failure& failure = *world_.training.estimate.mutable_failure();
  failure.set_code("NO_SUCH_MODULE");
  failure.set_message("q_prj");
  const CliWorld::Result invalid = world_.Run(words);
  EXPECT_EQ(invalid.code, kExitBadOutcome);
  EXPECT_THAT(invalid.out, HasSubstr("no: NO_SUCH_MODULE: q_prj"));
}

TEST_F(JobEndTest, SubmitCanWatchAndWait) {
  for (const char* flag : {"--watch", "--wait"}) {
    world_.training.jobs.erase("tenants/default/jobs/fresh");
    v1::Job job = Ended(v1::FAILED);
    world_.training.watches.push_back({WatchOfJob(job, 3), absl::OkStatus()});
    const CliWorld::Result result =
        world_.Run({"job", "submit", "--file", "{}/job.json", "--job_id", "fresh", flag});
    EXPECT_EQ(result.code, kExitBadOutcome) << flag << result.err;
    EXPECT_EQ(world_.training.watch_requests.back().name(), "tenants/default/jobs/fresh");
  }
}

TEST_F(JobEndTest, AWatchGoesOnThroughARestartOfTheScheduler) {
  const std::vector<v1::WatchJobResponse> all = WatchOfJob(Ended(v1::SUCCEEDED), 10);
  world_.training.watches.push_back({{all[0]}, absl::UnavailableError("restarting")});
  world_.training.watches.push_back({{}, absl::UnavailableError("restarting")});
  world_.training.watches.push_back({{all[1]}, absl::OkStatus()});
  const CliWorld::Result result = world_.Run({"job", "watch", "job-7"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(world_.training.watch_requests.back().since_seq(), 1);
  EXPECT_EQ(world_.training.watch_requests.back().since_metric(), 11);
  EXPECT_THAT(result.err, HasSubstr("the scheduler does not answer, trying again"));
}

TEST_F(JobEndTest, LogsThatFollowWaitTenMinutesForTheSchedulerAndSayWhy) {
  const std::vector<v1::WatchJobResponse> all = WatchOfJob(Ended(v1::SUCCEEDED), 10);
  world_.training.watches.push_back({{all[0]}, absl::UnavailableError("restarting")});
  world_.training.watches.push_back({{all[1]}, absl::OkStatus()});
  const CliWorld::Result result = world_.Run({"job", "logs", "job-7", "--follow"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("state SUCCEEDED"));
  EXPECT_THAT(result.err, HasSubstr("the scheduler does not answer, trying again"));
  EXPECT_THAT(world_.interrupt_note, HasSubstr("dw job logs job-7 --follow"));

  const absl::Duration begin = world_.clock.Monotonic();
  EXPECT_EQ(world_.Run({"job", "logs", "job-7", "--follow"}).code, kExitUnavailable);
  EXPECT_GT(world_.clock.Monotonic() - begin, absl::Minutes(9));
  EXPECT_LE(world_.clock.Monotonic() - begin, absl::Minutes(10));
}

TEST_F(JobEndTest, CtrlCLeavesTheJobAndSaysHowToComeBack) {
  world_.training.watches.push_back({WatchOfJob(Ended(v1::SUCCEEDED), 3), absl::OkStatus()});
  world_.Run({"job", "watch", "job-7"});
  EXPECT_THAT(world_.interrupt_note, HasSubstr("dw job watch job-7"));
}

TEST_F(JobEndTest, OnATerminalOneBlockIsRedrawn) {
  world_.terminal = true;
  world_.environment["NO_COLOR"] = "1";
  world_.training.watches.push_back({WatchOfJob(Ended(v1::SUCCEEDED), 10), absl::OkStatus()});
  const CliWorld::Result result = world_.Run({"job", "watch", "job-7"});
  EXPECT_THAT(result.out, HasSubstr("A\x1b[J")) << "the cursor goes up and clears";
  EXPECT_THAT(result.out, ::testing::Not(HasSubstr("\x1b[32m"))) << "NO_COLOR";
  EXPECT_THAT(result.out, HasSubstr("▁"));
}

TEST_F(JobEndTest, ARemarkBelowTheBlockIsNotDrawnOver) {
  world_.terminal = true;
  const std::vector<v1::WatchJobResponse> all = WatchOfJob(Ended(v1::SUCCEEDED), 10);
  world_.training.watches.push_back({{all[0]}, absl::UnavailableError("restarting")});
  world_.training.watches.push_back({{all[1]}, absl::OkStatus()});
  const CliWorld::Result result = world_.Run({"job", "watch", "job-7"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.err, HasSubstr("trying again"));
  EXPECT_THAT(result.out, ::testing::Not(HasSubstr("A\x1b[J"))) << "the block begins anew";
}

}  // namespace
}  // namespace deltaworks::services
