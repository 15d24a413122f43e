// dw apply: a file says which jobs there shall be. Applying it twice makes each job once, an edited
// file is noticed field by field, and a file that is wrong anywhere creates nothing.

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/job_state.h"
#include "services/cli/apply_command.h"
#include "services/cli/apply_file.h"
#include "services/cli/exit_code.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kFile[] = R"(base_model: smollm2
defaults:
  lora: {rank: 8, target_modules: [q_proj, v_proj]}
  arguments: {learning_rate: 1e-3, max_steps: 100}
  labels: {team: a}
jobs:
  - name: notes
    dataset: notes
    lora: {rank: 16}
  - name: poems
    dataset: poems
    priority_class: high
    labels: {kind: "007"}
)";

// The fake, with every create counted and some refused.
class RefusingClient final : public TrainingClient {
 public:
  explicit RefusingClient(FakeTrainingClient& fake) : fake_(fake) {}

  std::vector<v1::CreateJobRequest> creates;
  // By job id: carried out, unless the status is an error.
  std::map<std::string, absl::Status> refuse;
  // Called before a create.
  std::function<void()> before_create = [] {};
  // What a watch answers instead of the jobs, and how it ends after them.
  std::function<absl::Status()> before_watch = [] { return absl::OkStatus(); };
  std::function<absl::Status()> after_watch = [] { return absl::UnavailableError("restarting"); };

  absl::StatusOr<v1::Job> CreateJob(const v1::CreateJobRequest& request) override {
    creates.push_back(request);
    before_create();
    const auto found = refuse.find(request.job_id());
    if (found != refuse.end()) return found->second;
    return fake_.CreateJob(request);
  }
  absl::StatusOr<v1::Job> GetJob(const std::string& name) override { return fake_.GetJob(name); }
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request) override {
    return fake_.ListJobs(request);
  }
  absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest&) override { return Unexpected(); }
  absl::StatusOr<v1::Job> RerunJob(const v1::RerunJobRequest& r) override {
    return fake_.RerunJob(r);
  }
  absl::Status DeleteJob(const v1::DeleteJobRequest&) override { return Unexpected(); }
  absl::StatusOr<v1::EstimateJobResponse> EstimateJob(const v1::EstimateJobRequest& r) override {
    return fake_.EstimateJob(r);
  }
  absl::StatusOr<v1::Job> UpdateJob(const v1::UpdateJobRequest&) override { return Unexpected(); }
  absl::StatusOr<v1::Job> PauseJob(const v1::PauseJobRequest&) override { return Unexpected(); }
  absl::StatusOr<v1::Job> ResumeJob(const v1::ResumeJobRequest&) override { return Unexpected(); }
  absl::StatusOr<v1::ListJobEventsResponse> ListJobEvents(
      const v1::ListJobEventsRequest& request) override {
    return fake_.ListJobEvents(request);
  }
  absl::StatusOr<v1::ListJobMetricsResponse> ListJobMetrics(
      const v1::ListJobMetricsRequest& request) override {
    return fake_.ListJobMetrics(request);
  }
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(
      const v1::ListWorkersRequest& request) override {
    return fake_.ListWorkers(request);
  }
  absl::Status WatchJob(const v1::WatchJobRequest& request, const JobSink& sink) override {
    return fake_.WatchJob(request, sink);
  }
  // As the scheduler: jobs that ended before it began are not told of.
  absl::Status WatchJobs(const v1::WatchJobsRequest& request, const JobsSink& sink) override {
    EXPECT_EQ(request.filter(), "state = active");
    DW_RETURN_IF_ERROR(before_watch());
    const absl::Status status = fake_.WatchJobs(request, [&sink](const v1::WatchJobsResponse& all) {
      v1::WatchJobsResponse active = all;
      active.clear_jobs();
      for (const v1::Job& job : all.jobs()) {
        if (!scheduler::IsFinal(job.status().state())) *active.add_jobs() = job;
      }
      return sink(active);
    });
    DW_RETURN_IF_ERROR(status);
    return after_watch();
  }

 private:
  static absl::Status Unexpected() { return absl::InternalError("apply moves no job"); }
  FakeTrainingClient& fake_;
};

class ApplyTest : public ::testing::Test {
 protected:
  ApplyTest() : world_("apply"), client_(world_.training) {
    world_.Fill();
    world_.training.jobs.clear();
    world_.training_client = &client_;
  }

  CliWorld::Result Apply(const std::string& text, std::vector<std::string> flags = {}) {
    EXPECT_TRUE(WriteFileAtomically(world_.Path("jobs.yaml"), text).ok());
    std::vector<std::string> words = {"apply", "-f", "{}/jobs.yaml"};
    words.insert(words.end(), flags.begin(), flags.end());
    return world_.Run(words);
  }

  // A file with one change.
  static std::string With(const std::string& from, const std::string& to) {
    const std::string text = absl::StrReplaceAll(kFile, {{from, to}});
    EXPECT_NE(text, kFile) << from;
    return text;
  }

  // Expects wrong use that says `error`, and nothing created.
  void ExpectWrong(const std::string& text, const std::string& error) {
    const CliWorld::Result result = Apply(text);
    EXPECT_EQ(result.code, kExitWrongUse) << text.substr(0, 1000) << result.out;
    EXPECT_THAT(result.err, HasSubstr(error)) << text.substr(0, 1000);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(client_.creates, IsEmpty());
  }

  v1::Job& Job(const std::string& id) {
    return world_.training.jobs.at(absl::StrCat("tenants/default/jobs/", id));
  }

  CliWorld world_;
  RefusingClient client_;
};

TEST_F(ApplyTest, JobsAreCreatedWithTheirFieldsOverTheDefaults) {
  const CliWorld::Result result = Apply(kFile);
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("notes  created  VALIDATING"));
  EXPECT_THAT(result.out, HasSubstr("poems  created  VALIDATING"));
  EXPECT_THAT(result.err, HasSubstr("2 created"));
  ASSERT_EQ(world_.training.jobs.size(), 2);
  EXPECT_EQ(client_.creates.at(0).job_id(), "notes") << "in the order of the file";

  const v1::TrainSpec& notes = Job("notes").train();
  EXPECT_EQ(notes.base_model(), "tenants/default/baseModels/smollm2");
  EXPECT_EQ(notes.dataset(), "tenants/default/datasets/notes");
  EXPECT_EQ(notes.lora().rank(), 16);
  EXPECT_THAT(notes.lora().target_modules(), ElementsAre("q_proj", "v_proj"));
  EXPECT_EQ(notes.arguments().learning_rate(), 1e-3);
  EXPECT_EQ(notes.arguments().max_steps(), 100);
  EXPECT_FALSE(notes.has_text()) << "what is not said is not sent";
  EXPECT_EQ(Job("notes").priority_class(), v1::PRIORITY_CLASS_UNSPECIFIED);
  EXPECT_EQ(Job("poems").train().lora().rank(), 8);
  EXPECT_EQ(Job("poems").priority_class(), v1::HIGH);
  EXPECT_EQ(Job("poems").labels().at("kind"), "007");
  EXPECT_EQ(Job("poems").labels().at("team"), "a") << "maps merge";
}

TEST_F(ApplyTest, ListsReplaceAndNullTakesADefaultBack) {
  const CliWorld::Result result = Apply(R"(
base_model: smollm2
defaults:
  target_modules: [q_proj, v_proj]
  arguments: {max_steps: 100, seed: 1}
  labels: {team: a, room: b}
  rank: 4
jobs:
  - {name: a, dataset: d, target_modules: all-linear, seed: ~, labels: {room: null}}
  - {name: b, dataset: d, arguments: null, lora: ~, r: 2}
)");
  ASSERT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(Job("a").train().lora().target_modules(), ElementsAre("all-linear"));
  EXPECT_EQ(Job("a").train().lora().rank(), 4);
  EXPECT_FALSE(Job("a").train().arguments().has_seed());
  EXPECT_EQ(Job("a").train().arguments().max_steps(), 100);
  EXPECT_EQ(Job("a").labels().count("room"), 0);
  EXPECT_EQ(Job("a").labels().at("team"), "a");
  EXPECT_FALSE(Job("b").train().has_arguments());
  EXPECT_THAT(Job("b").train().lora().target_modules(), IsEmpty());
  EXPECT_EQ(Job("b").train().lora().rank(), 2);
}

TEST_F(ApplyTest, FieldsGoByTheNamesOfTheProtosAndOfTheFlags) {
  const CliWorld::Result result = Apply(R"(
base_model: tenants/default/baseModels/smollm2
jobs:
  - name: 007
    display_name: no
    train: {dataset: d, text: {maxLength: 256}, compute_type: F32}
    lora: {r: 4, rank_pattern: {down_proj: 2}, use_rslora: true}
    learning_rate: 5e-4
    max_steps: 0x10
    adapter: mine
    validation_dataset: held-out
    parent_job: sweep
    priority: LOW
    cohort: alone
    placement: {worker_labels: {1: true}, resume_policy: exact}
    retry_policy: {max_retries: -1}
  - {name: other, dataset: d, placement: {cohort: COHORT_TENANT}}
)");
  ASSERT_EQ(result.code, kExitOk) << result.err;
  const v1::Job& job = Job("007");
  EXPECT_EQ(job.display_name(), "no") << "a text is as it is written";
  EXPECT_EQ(job.train().dataset(), "tenants/default/datasets/d");
  EXPECT_EQ(job.train().text().max_length(), 256);
  EXPECT_EQ(job.train().compute_type(), v1::F32);
  EXPECT_EQ(job.train().lora().rank(), 4);
  EXPECT_EQ(job.train().lora().rank_pattern().at("down_proj"), 2);
  EXPECT_TRUE(job.train().lora().use_rslora());
  EXPECT_EQ(job.train().arguments().learning_rate(), 5e-4);
  EXPECT_EQ(job.train().arguments().max_steps(), 16);
  EXPECT_EQ(job.train().adapter(), "tenants/default/adapters/mine");
  EXPECT_EQ(job.train().validation_dataset(), "tenants/default/datasets/held-out");
  EXPECT_EQ(job.parent_job(), "tenants/default/jobs/sweep");
  EXPECT_EQ(job.priority_class(), v1::LOW);
  EXPECT_EQ(job.placement().cohort(), v1::Placement::COHORT_ALONE);
  EXPECT_EQ(job.placement().worker_labels().at("1"), "true");
  EXPECT_EQ(job.placement().resume_policy(), v1::Placement::EXACT);
  EXPECT_EQ(job.retry_policy().max_retries(), -1);
  EXPECT_EQ(Job("other").placement().cohort(), v1::Placement::COHORT_TENANT);
}

TEST_F(ApplyTest, AppliedAgainEverythingIsUnchanged) {
  ASSERT_EQ(Apply(kFile).code, kExitOk);
  // The scheduler's defaults, and its own fields, are no differences.
  Job("notes").mutable_train()->set_adapter("tenants/default/adapters/notes");
  Job("notes").mutable_train()->mutable_arguments()->set_seed(42);
  Job("notes").mutable_status()->set_state(v1::RUNNING);
  client_.creates.clear();
  const CliWorld::Result result = Apply(kFile);
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("notes  unchanged  RUNNING"));
  EXPECT_THAT(result.out, HasSubstr("poems  unchanged  VALIDATING"));
  EXPECT_THAT(client_.creates, IsEmpty());
  EXPECT_EQ(world_.training.jobs.size(), 2);
  // Another way to say the same.
  EXPECT_EQ(Apply(With("priority_class: high", "priority: HIGH")).code, kExitOk);
  EXPECT_EQ(Apply(With("1e-3", "0.001")).code, kExitOk);
}

TEST_F(ApplyTest, AnEditedJobDiffersAndIsLeftAlone) {
  ASSERT_EQ(Apply(kFile).code, kExitOk);
  client_.creates.clear();
  const CliWorld::Result result = Apply(With("rank: 16", "rank: 32"));
  EXPECT_EQ(result.code, kExitRefused);
  EXPECT_THAT(result.out, HasSubstr("notes  differs    train.lora.rank is 16, the file says 32\n"));
  EXPECT_THAT(result.out, HasSubstr("poems  unchanged"));
  EXPECT_THAT(result.err, HasSubstr("another name"));
  EXPECT_THAT(client_.creates, IsEmpty());
  EXPECT_EQ(Job("notes").train().lora().rank(), 16);
}

TEST_F(ApplyTest, AllDifferencesOfAJobAreInTheJson) {
  ASSERT_EQ(Apply(kFile).code, kExitOk);
  const std::string text =
      absl::StrReplaceAll(kFile, {{"max_steps: 100", "max_steps: 9, seed: 3"},
                                  {"[q_proj, v_proj]", "[q_proj]"},
                                  {"team: a", "team: b"},
                                  {"name: notes\n", "name: notes\n    validation_dataset: v\n"}});
  EXPECT_THAT(Apply(text).out, HasSubstr("and 2 more"));
  const auto json = ParseJson(Apply(text, {"--output", "json"}).out, "out");
  ASSERT_TRUE(json.ok()) << json.status();
  std::vector<std::string> fields;
  for (const Json& difference : (*json)["jobs"][0]["differences"]) {
    fields.push_back(difference["field"].get<std::string>());
  }
  EXPECT_THAT(fields, ElementsAre("labels[\"team\"]", "train.validation_dataset",
                                  "train.lora.target_modules", "train.arguments.max_steps",
                                  "train.arguments.seed"));
  const Json& seed = (*json)["jobs"][0]["differences"][4];
  EXPECT_EQ(seed["file"], "3");
  EXPECT_EQ(seed["job"], "");
}

TEST_F(ApplyTest, AFieldThatIsGoneFromTheFileIsADifference) {
  ASSERT_EQ(Apply(kFile).code, kExitOk);
  const CliWorld::Result result = Apply(With(", max_steps: 100", ""));
  EXPECT_EQ(result.code, kExitRefused);
  EXPECT_THAT(result.out,
              HasSubstr("differs  train.arguments.max_steps is 100, the file says nothing\n"));
  EXPECT_THAT(Apply(With("    labels: {kind: \"007\"}\n", "")).out,
              HasSubstr("labels[\"kind\"] is \"007\", the file says nothing\n"));
  EXPECT_THAT(Apply(With("learning_rate: 1e-3, ", "")).out,
              HasSubstr("train.arguments.learning_rate is 0.001, the file says nothing\n"));
  // A default written out.
  Job("notes").mutable_retry_policy()->set_max_retries(5);
  EXPECT_THAT(
      Apply(With("dataset: notes\n", "dataset: notes\n    retry_policy: {max_retries: 5}\n")).out,
      HasSubstr("notes  differs    the file was changed since, in nothing that the job shows\n"));
}

TEST_F(ApplyTest, AJobThatAnotherToolMadeIsComparedByWhatTheFileSays) {
  ASSERT_EQ(world_
                .Run({"job", "submit", "--job_id", "one", "--base_model", "smollm2", "--dataset",
                      "d", "--max_steps", "5", "--seed", "1"})
                .code,
            kExitOk);
  const std::string file = "base_model: smollm2\njobs:\n  - {name: one, dataset: d, max_steps: ";
  EXPECT_EQ(Apply(file + "5}").code, kExitOk);
  EXPECT_EQ(Apply(file + "6}").code, kExitRefused);
}

TEST_F(ApplyTest, TheRequestIdIsThatOfJobAndName) {
  ASSERT_EQ(Apply(kFile).code, kExitOk);
  world_.training.jobs.clear();
  client_.refuse["notes"] = client_.refuse["poems"] = absl::UnavailableError("lost");
  ASSERT_EQ(Apply(kFile).code, kExitUnavailable);
  ASSERT_EQ(Apply(With("rank: 16", "rank: 32")).code, kExitUnavailable);
  ASSERT_EQ(client_.creates.size(), 4);
  const std::string& id = client_.creates[0].request_id();
  EXPECT_THAT(id, StartsWith("apply-"));
  EXPECT_LE(id.size(), 64);
  EXPECT_NE(client_.creates[1].request_id(), id) << "another job";
  EXPECT_EQ(client_.creates[2].request_id(), id) << "the same again";
  EXPECT_NE(client_.creates[3].request_id(), id) << "the same name, edited";
}

TEST_F(ApplyTest, WhatIsRefusedInTheMiddleIsToldAndGoesOnLater) {
  client_.refuse["poems"] = absl::ResourceExhaustedError("the queue has 1 jobs, want fewer");
  const std::string text = absl::StrCat(kFile, "  - {name: songs, dataset: songs}\n");
  const CliWorld::Result result = Apply(text, {"--watch"});
  EXPECT_EQ(result.code, kExitError);
  EXPECT_THAT(result.out, HasSubstr("notes  created"));
  EXPECT_THAT(result.out, HasSubstr("poems  refused    the queue has 1 jobs, want fewer\n"));
  EXPECT_THAT(result.out, HasSubstr("songs  not tried\n"));
  EXPECT_THAT(result.err, HasSubstr("job poems: the queue has 1 jobs, want fewer (1 created, "
                                    "1 refused, 1 not tried; apply the file again to go on)"));
  EXPECT_EQ(world_.training.jobs.size(), 1);

  client_.refuse.clear();
  client_.creates.clear();
  EXPECT_EQ(Apply(text).code, kExitOk);
  EXPECT_EQ(client_.creates.size(), 2);
  EXPECT_EQ(world_.training.jobs.size(), 3);
}

TEST_F(ApplyTest, AJobThatSomebodyElseCreatesMeanwhileIsCompared) {
  client_.before_create = [this] {
    v1::Job job = client_.creates.back().job();
    job.set_name("tenants/default/jobs/" + client_.creates.back().job_id());
    if (client_.creates.size() == 2) (*job.mutable_labels())[kApplyLabel] = "another";
    world_.training.jobs[job.name()] = job;
  };
  const CliWorld::Result result = Apply(kFile);
  EXPECT_EQ(result.code, kExitRefused) << result.err;
  EXPECT_THAT(result.out, HasSubstr("notes  unchanged"));
  EXPECT_THAT(result.out, HasSubstr("poems  differs"));
}

TEST_F(ApplyTest, ADryRunCreatesNothing) {
  ASSERT_EQ(Apply(absl::StrCat("base_model: smollm2\n",
                               "jobs: [{name: poems, dataset: poems, max_steps: 3}]"))
                .code,
            kExitOk);
  client_.creates.clear();
  const CliWorld::Result result = Apply(kFile, {"--dry_run"});
  EXPECT_EQ(result.code, kExitRefused) << "what it would be";
  EXPECT_THAT(result.out, HasSubstr("notes  would create\n"));
  EXPECT_THAT(result.out, HasSubstr("poems  differs"));
  EXPECT_THAT(client_.creates, IsEmpty());
  EXPECT_EQ(world_.training.jobs.size(), 1);
  EXPECT_EQ(Apply(kFile, {"--dry_run", "--watch"}).code, kExitWrongUse);
}

TEST_F(ApplyTest, ProgramsGetOneDocument) {
  const auto json = ParseJson(Apply(kFile, {"--output", "json"}).out, "out");
  ASSERT_TRUE(json.ok()) << json.status();
  const Json& job = (*json)["jobs"][1];
  EXPECT_EQ(job["name"], "tenants/default/jobs/poems");
  EXPECT_EQ(job["outcome"], "created");
  EXPECT_EQ(job["state"], "VALIDATING");
  EXPECT_EQ(job["differences"].size(), 0);
}

TEST_F(ApplyTest, TheFileMayBeJsonAndComeFromStandardInput) {
  world_.input = R"({"base_model": "smollm2", "jobs": [{"name": "a", "dataset": "d", "rank": 4}]})";
  EXPECT_EQ(world_.Run({"apply", "-f", "-"}).code, kExitOk);
  EXPECT_EQ(Job("a").train().lora().rank(), 4);
  world_.input = "jobs: []\n";
  const CliWorld::Result result = world_.Run({"apply", "--file=-"});
  EXPECT_EQ(result.code, kExitWrongUse);
  EXPECT_THAT(result.err, HasSubstr("stdin:1: jobs has 0 entries, want 1..10000"));
}

TEST_F(ApplyTest, AFileThatIsWrongAnywhereCreatesNothingAndSaysWhere) {
  const std::string path = world_.Path("jobs.yaml");
  ExpectWrong(With("rank: 16}", "rank: 16"), absl::StrCat(path, ":"));
  ExpectWrong(With("  lora: {rank: 8,", " lora: {rank: 8,"), "no YAML");
  ExpectWrong(With("rank: 16", "rankk: 16"),
              ":9: jobs[0].lora has no field \"rankk\"; did you mean \"rank\"?");
  ExpectWrong(With("max_steps: 100", "max_step: 100"),
              ":4: defaults.arguments has no field \"max_step\"; did you mean \"max_steps\"?");
  ExpectWrong(With("    priority_class", "    priority_clas"),
              ":12: jobs[1] has no field \"priority_clas\"; did you mean \"priority_class\"?");
  ExpectWrong(With("    priority_class: high", "    status: {}"),
              ":12: jobs[1] has no field \"status\"");
  ExpectWrong(With("jobs:", "job:"), ":6: the file has no field \"job\", want base_model");
  ExpectWrong(With("rank: 16", "rank: many"), ":9: train.lora.rank is \"many\", want int32");
  ExpectWrong(With("rank: 16", "rank: 5000000000"), ":9: train.lora.rank is 5000000000, want");
  ExpectWrong(With("rank: 16", "rank: [16]"), ":9: jobs[0].lora.rank is a list, want int32");
  ExpectWrong(With("rank: 16", "rank: 5000"), ":9: train.lora.rank is 5000, want 1..1024");
  ExpectWrong(With("rank: 16", "rank: 16, r: 16"),
              ":9: jobs[0].lora.r is said twice, in line 9 too");
  ExpectWrong(With("lora: {rank: 16}", "lora: 16"),
              ":9: jobs[0].lora is a single value, want a map");
  ExpectWrong(With("priority_class: high", "priority_class: highest"),
              ":12: priority_class is \"highest\", want one of low, normal, high");
  ExpectWrong(With("dataset: poems", "dataset: My Poems"), ":11: train.dataset is \"My Poems\"");
  ExpectWrong(With("    dataset: poems\n", ""), ":10: job poems has no dataset");
  ExpectWrong(With("base_model: smollm2\n", ""), "job notes has no base_model");
  ExpectWrong(With("base_model: smollm2\n", "base_model: tenants/other/baseModels/b\n"),
              ":1: train.base_model is \"tenants/other/baseModels/b\", want a resource of");
  ExpectWrong(With("defaults:\n", "defaults:\n  base_model: x\n"),
              ":3: defaults.base_model is said twice, in line 1 too");
  ExpectWrong(With("team: a", "team: a, deltaworks-apply: x"),
              ":5: labels.deltaworks-apply is for dw to write");
}

TEST_F(ApplyTest, EachJobHasANameOfItsOwn) {
  ExpectWrong(With("name: poems", "name: notes"),
              ":10: jobs[1].name is \"notes\", which is that of the job in line 7, want another");
  ExpectWrong(With("name: poems", "name: My Poems"), ":10: jobs[1].name is \"My Poems\", want");
  ExpectWrong(With("name: poems", "display_name: poems"), ":10: jobs[1] has no name");
  ExpectWrong(With("name: poems", "name: [poems]"), ":10: jobs[1].name is a list, want an id");
  ExpectWrong(With("jobs:\n", "jobs:\n  - 3\n"), ":7: jobs[0] is a single value, want a map");
}

TEST_F(ApplyTest, FilesAndListsAreBounded) {
  ExpectWrong(std::string(kApplyFileBytesMax + 1, '#'), "larger than 16777216");
  EXPECT_THAT(Apply(std::string(kApplyFileBytesMax, '#')).err, HasSubstr("the file is null"));
  world_.input = std::string(kApplyFileBytesMax + 1, '#');
  EXPECT_THAT(world_.Run({"apply", "-f", "-"}).err, HasSubstr("stdin has more than 16777216"));

  std::string text = "base_model: smollm2\ndefaults: {dataset: d}\njobs:\n";
  for (int64_t i = 0; i < kApplyJobsMax; ++i) absl::StrAppend(&text, "- name: job-", i, "\n");
  EXPECT_EQ(Apply(text, {"--dry_run"}).code, kExitOk);
  ExpectWrong(absl::StrCat(text, "- name: one-more\n"), "jobs has 10001 entries, want 1..10000");

  ExpectWrong("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", ":1: anchors (&) and aliases (*)");
}

TEST_F(ApplyTest, WatchTellsEachChangeUntilAllHaveEnded) {
  int waits = 0;
  world_.while_asleep = [&] {
    ++waits;
    Job("notes").mutable_status()->set_state(waits == 1 ? v1::RUNNING : v1::SUCCEEDED);
    if (waits == 3) Job("poems").mutable_status()->set_state(v1::SUCCEEDED);
  };
  const CliWorld::Result result = Apply(kFile, {"--watch"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  const size_t running = result.out.find("notes  RUNNING");
  const size_t done = result.out.find("notes  SUCCEEDED");
  ASSERT_NE(running, std::string::npos) << result.out;
  ASSERT_NE(done, std::string::npos) << result.out;
  EXPECT_LT(running, done);
  EXPECT_THAT(result.out, HasSubstr("poems  SUCCEEDED"));
  EXPECT_EQ(waits, 3);
  EXPECT_THAT(world_.interrupt_note, HasSubstr("--watch"));
}

TEST_F(ApplyTest, AWatchGivesTheSchedulerTenMinutesFromWhenItWentAway) {
  int watches = 0;
  client_.after_watch = [&] {
    // Nothing happens for long, then the scheduler is restarted.
    world_.clock.Advance(absl::Hours(3));
    return absl::UnavailableError("restarting");
  };
  client_.before_watch = [&] {
    if (++watches != 5) return watches == 1 ? absl::OkStatus() : absl::UnavailableError("away");
    for (const char* id : {"notes", "poems"}) Job(id).mutable_status()->set_state(v1::SUCCEEDED);
    return absl::OkStatus();
  };
  const CliWorld::Result result = Apply(kFile, {"--watch"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(watches, 5);
  EXPECT_THAT(result.err, HasSubstr("the scheduler does not answer, trying again"));

  Job("notes").mutable_status()->set_state(v1::RUNNING);
  const absl::Duration begin = world_.clock.Monotonic();
  client_.before_watch = [] { return absl::UnavailableError("away"); };
  EXPECT_EQ(Apply(kFile, {"--watch"}).code, kExitUnavailable);
  EXPECT_GT(world_.clock.Monotonic() - begin, absl::Minutes(9));
  EXPECT_LE(world_.clock.Monotonic() - begin, absl::Minutes(10));
}

TEST_F(ApplyTest, OneThatFailsIsExitCode6) {
  world_.while_asleep = [&] {
    Job("notes").mutable_status()->set_state(v1::SUCCEEDED);
    Job("poems").mutable_status()->set_state(v1::FAILED);
    Job("poems").mutable_status()->mutable_failure()->set_code("DIVERGED");
  };
  const CliWorld::Result result = Apply(kFile, {"--watch"});
  EXPECT_EQ(result.code, kExitBadOutcome) << result.err;
  EXPECT_THAT(result.out, HasSubstr("FAILED  DIVERGED"));
  // Ended as they are, there is nothing to wait for.
  EXPECT_EQ(Apply(kFile, {"--watch"}).code, kExitBadOutcome);
  EXPECT_EQ(Apply(kFile).code, kExitOk) << "without --watch only the applying counts";
  const CliWorld::Result lines = Apply(kFile, {"--watch", "--output", "json"});
  EXPECT_EQ(std::count(lines.out.begin(), lines.out.end(), '\n'), 1) << lines.out;
  // The file was not carried out: that goes before how the others ended.
  EXPECT_EQ(Apply(With("rank: 16", "rank: 32"), {"--watch"}).code, kExitRefused);
}

}  // namespace
}  // namespace deltaworks::services
