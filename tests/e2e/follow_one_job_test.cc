// One job through the whole platform: submitted over gRPC, validated, trained, registered, answered
// with, downloaded, and counted right by everybody.

#include <map>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/workload.h"
#include "trainer/base/json.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::e2e {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kSteps = 60;
constexpr int kExamples = 48;

// One platform and one finished job for all tests: they only look.
class FollowOneJobTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    platform_ = new Platform({.inference = true});
    base_ = new v1::BaseModel(ImportBase(*platform_));
    AddDataset(*platform_, "pairs", kExamples, 1);
    AddDataset(*platform_, "held-out", 8, 2);
    v1::CreateJobRequest request = JobRequest("first", kSteps);
    v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
    spec.set_validation_dataset("tenants/acme/datasets/held-out");
    spec.mutable_arguments()->set_eval_steps(20);
    request.mutable_job()->set_display_name("the first");
    (*request.mutable_job()->mutable_labels())["team"] = "poets";
    submitted_ = new v1::Job(Submit(*platform_, request));
    job_ = new v1::Job(AwaitEnd(*platform_, submitted_->name()));
    version_ = new v1::AdapterVersion();
    if (job_->status().state() == v1::SUCCEEDED) {
      *version_ = Must(platform_->registry_of().GetVersion(job_->status().result().version()));
    }
  }
  static void TearDownTestSuite() {
    delete version_;
    delete job_;
    delete submitted_;
    delete base_;
    delete platform_;
  }
  void SetUp() override {
    ASSERT_EQ(job_->status().state(), v1::SUCCEEDED)
        << Describe(*job_) << platform_->worker().LogTail() << platform_->scheduler().LogTail();
  }

  static std::string Answer(const std::string& model,
                            v1::ModelSelector::Mode mode = v1::ModelSelector::UNMERGED) {
    const e2e::Answer answer = Generate(*platform_, model, mode);
    EXPECT_NE(answer.last.finish_reason(), v1::GenerateResponse::FINISH_REASON_UNSPECIFIED);
    EXPECT_EQ(answer.last.generated_tokens(), static_cast<int64_t>(answer.tokens.size()));
    generated_tokens_ += answer.last.generated_tokens();
    return absl::StrJoin(answer.tokens, " ");
  }

  // Loss per label token of a dataset, as inference scores it.
  static double Loss(const std::string& model, const std::string& lines) {
    v1::ScoreRequest request;
    request.set_parent(Parent());
    request.mutable_model()->set_model(model);
    request.mutable_text()->set_max_length(128);
    for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
      const Json json = Json::parse(std::string(line));
      v1::PromptCompletion& pair = *request.add_examples()->mutable_prompt_completion();
      pair.set_prompt(json["prompt"].get<std::string>());
      pair.set_completion(json["completion"].get<std::string>());
    }
    const v1::ScoreResponse response = Must(platform_->inference_of().Score(request));
    double sum = 0;
    int64_t labels = 0;
    for (const v1::ExampleScore& score : response.scores()) {
      sum += score.negative_log_likelihood();
      labels += score.label_tokens();
      scored_tokens_ += score.token_count();
    }
    return sum / static_cast<double>(labels);
  }

  static Platform* platform_;
  static v1::BaseModel* base_;
  static v1::Job* submitted_;
  static v1::Job* job_;
  static v1::AdapterVersion* version_;
  // By inference, so far.
  static int64_t generated_tokens_;
  static int64_t scored_tokens_;
};
Platform* FollowOneJobTest::platform_;
v1::BaseModel* FollowOneJobTest::base_;
v1::Job* FollowOneJobTest::submitted_;
v1::Job* FollowOneJobTest::job_;
v1::AdapterVersion* FollowOneJobTest::version_;
int64_t FollowOneJobTest::generated_tokens_;
int64_t FollowOneJobTest::scored_tokens_;

TEST_F(FollowOneJobTest, TheAnswerToSubmitIsTheAcceptedJob) {
  EXPECT_EQ(submitted_->name(), "tenants/acme/jobs/first");
  EXPECT_EQ(submitted_->status().state(), v1::VALIDATING);
  EXPECT_EQ(submitted_->display_name(), "the first");
  EXPECT_EQ(submitted_->labels().at("team"), "poets");
  EXPECT_EQ(submitted_->train().arguments().lr_scheduler_type(), v1::TrainingArguments::LINEAR);
}

TEST_F(FollowOneJobTest, TheJobTellsHowManyParametersItTrained) {
  const v1::TrainFacts& facts = job_->status().facts();
  // Rank 4 on seven matrices of both layers: 4 * (inputs + outputs).
  EXPECT_EQ(facts.trainable_parameters(),
            2 * 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32) + 3 * (32 + 64)));
  EXPECT_EQ(facts.total_parameters(), base_->parameter_count());
  EXPECT_EQ(facts.total_steps(), kSteps);
  EXPECT_EQ(facts.train_examples(), kExamples);
  EXPECT_EQ(facts.validation_examples(), 8);
  EXPECT_EQ(facts.base_source_digest(), base_->source_digest());
  EXPECT_EQ(facts.base_form(), v1::F32);
  EXPECT_GT(facts.memory_bytes_max(), 0);
}

TEST_F(FollowOneJobTest, ItsEventsTellEveryStateInOrder) {
  const History history = HistoryOf(*platform_, job_->name());
  std::vector<v1::JobState> states;
  for (size_t i = 0; i < history.events.size(); ++i) {
    const v1::JobEvent& event = history.events[i];
    EXPECT_EQ(event.seq(), static_cast<int64_t>(i) + 1);
    if (states.empty() || states.back() != event.state()) states.push_back(event.state());
  }
  EXPECT_THAT(states,
              ElementsAre(v1::VALIDATING, v1::QUEUED, v1::RUNNING, v1::FINALIZING, v1::SUCCEEDED));
  EXPECT_EQ(static_cast<int64_t>(history.events.size()), job_->status().last_event_seq());
}

TEST_F(FollowOneJobTest, ItsMetricsHaveOnePointForEachStepAndTheLossFalls) {
  const History history = HistoryOf(*platform_, job_->name());
  // Step 0 carries the evaluation before training.
  ASSERT_EQ(static_cast<int64_t>(history.metrics.size()), kSteps + 1);
  std::vector<int64_t> evaluated;
  for (int64_t step = 0; step <= kSteps; ++step) {
    const v1::MetricPoint& point = history.metrics[static_cast<size_t>(step)];
    EXPECT_EQ(point.step(), step);
    if (point.has_eval_loss()) evaluated.push_back(step);
  }
  EXPECT_THAT(evaluated, ElementsAre(0, 20, 40, 60));
  EXPECT_LT(history.metrics.back().loss(), history.metrics[1].loss());
  EXPECT_LT(history.metrics.back().eval_loss(), history.metrics[0].eval_loss());
  EXPECT_EQ(history.metrics.back().tokens(), job_->status().progress().tokens());
  EXPECT_EQ(history.metrics.back().loss(), job_->status().result().loss());
  EXPECT_EQ(job_->status().metric_count(), kSteps + 1);
}

TEST_F(FollowOneJobTest, TheVersionIsReadyAndSaysWhereItComesFrom) {
  EXPECT_EQ(version_->name(), "tenants/acme/adapters/first/versions/1");
  EXPECT_EQ(version_->state(), v1::AdapterVersion::READY);
  EXPECT_EQ(version_->source().job(), job_->name());
  EXPECT_TRUE(version_->source().result());
  EXPECT_EQ(version_->base_model(), base_->name());
  EXPECT_EQ(version_->base_source_digest(), base_->source_digest());
  EXPECT_EQ(version_->base_form(), v1::F32);
  EXPECT_EQ(version_->dataset(), "tenants/acme/datasets/pairs");
  EXPECT_EQ(version_->dataset_manifest_digest(), job_->status().facts().dataset_manifest_digest());
  EXPECT_EQ(version_->adapter_digest(), job_->status().result().adapter_digest());
  EXPECT_EQ(version_->manifest_digest(), job_->status().result().manifest_digest());
  EXPECT_EQ(version_->trainable_parameters(), job_->status().facts().trainable_parameters());
  // A worker's class names those of f32 and bf16; a version's is that of its job's type.
  EXPECT_FALSE(version_->numerics_class().empty());
  EXPECT_THAT(job_->status().numerics_class(), HasSubstr(version_->numerics_class()));
  EXPECT_EQ(version_->metrics().step(), kSteps);
  EXPECT_EQ(version_->spec().lora().rank(), 4);
  EXPECT_EQ(version_->spec().text().max_length(), 128);
  EXPECT_EQ(version_->spec().compute_type(), v1::F32);
  EXPECT_TRUE(version_->exact());
  EXPECT_FALSE(version_->build_version().empty());
  EXPECT_EQ(VersionsOf(*platform_, "tenants/acme/adapters/first").size(), 1u);
}

TEST_F(FollowOneJobTest, TheAdapterAnswersOtherwiseThanItsBase) {
  const std::string base = Answer(base_->name());
  const std::string adapter = Answer(version_->name());
  EXPECT_NE(adapter, base);
  // By the adapter's name its newest version answers; and the base is as it was.
  EXPECT_EQ(Answer("tenants/acme/adapters/first"), adapter);
  EXPECT_EQ(Answer(base_->name()), base);
  EXPECT_EQ(Answer(version_->name(), v1::ModelSelector::MERGED), adapter);
}

TEST_F(FollowOneJobTest, ScoringGivesTheLossesThatTrainingMeasured) {
  const History history = HistoryOf(*platform_, job_->name());
  const std::string held_out = DatasetLines(8, 2);
  // Both sum the same f32 log-probabilities of some 150 tokens, in another order of examples.
  const double before = history.metrics.front().eval_loss();
  const double after = history.metrics.back().eval_loss();
  EXPECT_NEAR(Loss(base_->name(), held_out), before, 1e-5 * before);
  EXPECT_NEAR(Loss(version_->name(), held_out), after, 1e-5 * after);
}

TEST_F(FollowOneJobTest, TheDownloadIsAFolderForPeft) {
  const auto files = Download(*platform_, version_->name());
  ASSERT_EQ(files.size(), 2u);
  for (const auto& [name, file] : files) EXPECT_EQ(Sha256Digest(file.bytes), file.digest) << name;
  const DownloadedFile& model = files.at(trainer::kAdapterModelFile);
  EXPECT_EQ(model.digest, version_->adapter_digest());
  const std::string& config_text = files.at(trainer::kAdapterConfigFile).bytes;
  const auto config = Json::parse(config_text);
  EXPECT_EQ(config["base_model_name_or_path"], "e2e/tiny");
  EXPECT_EQ(config["r"], 4);

  const auto adapter = trainer::ParsePeft(model.bytes, config_text,
                                          trainer::LlamaModules(trainer::MakeTinyModel().config));
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ(static_cast<int64_t>(adapter->values.size()), version_->trainable_parameters());
  EXPECT_EQ(adapter->base_digest, base_->source_digest());
}

TEST_F(FollowOneJobTest, TheCountersOfEveryProcessAgreeWithTheJob) {
  const auto worker = Scrape(platform_->worker().metrics_address());
  EXPECT_EQ(Sample(worker, "deltaworks_worker_steps_total"), kSteps);
  EXPECT_EQ(Sample(worker, "deltaworks_worker_trained_tokens_total"),
            job_->status().progress().tokens());
  EXPECT_EQ(Sample(worker, "deltaworks_worker_runs_finished_total"), 1);
  EXPECT_EQ(Sample(worker, "deltaworks_worker_runs_failed_total"), 0);
  const auto registry = Scrape(platform_->registry().metrics_address());
  EXPECT_EQ(Sample(registry, "deltaworks_registry_versions_total{outcome=\"ready\"}"), 1);
  const auto store = Scrape(platform_->store().metrics_address());
  EXPECT_EQ(Sample(store, "deltaworks_store_imports_total{result=\"ready\"}"), 1);
  const auto scheduler = Scrape(platform_->scheduler().metrics_address());
  EXPECT_EQ(Sample(scheduler, "deltaworks_scheduler_jobs_ended_total{state=\"succeeded\"}"), 1);
  EXPECT_EQ(Sample(scheduler, "deltaworks_scheduler_metric_points_total"),
            job_->status().metric_count());
  Answer(base_->name());
  Loss(base_->name(), DatasetLines(2, 2));
  const auto inference = Scrape(platform_->inference().metrics_address());
  EXPECT_EQ(Sample(inference, "deltaworks_inference_tokens_total{kind=\"generated\"}"),
            generated_tokens_);
  EXPECT_EQ(Sample(inference, "deltaworks_inference_tokens_total{kind=\"scored\"}"),
            scored_tokens_);
}

}  // namespace
}  // namespace deltaworks::e2e
