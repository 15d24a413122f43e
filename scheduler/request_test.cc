// What comes from outside: names, specs, and requests that come twice.

#include <functional>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/job_spec.h"
#include "scheduler/message_difference.h"
#include "scheduler/request_log.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

v1::Job GoodJob() {
  v1::Job job;
  job.mutable_train()->set_base_model("tenants/t/baseModels/base");
  job.mutable_train()->set_dataset("tenants/t/datasets/data");
  return job;
}

TEST(ResourceNameTest, IdsAreLowerCaseDigitsAndInnerHyphens) {
  for (const char* id : {"a", "7", "a-b", "job-0123"}) EXPECT_TRUE(IsResourceId(id)) << id;
  for (const std::string& id :
       {std::string(""), std::string("-a"), std::string("a-"), std::string("A"), std::string("a_b"),
        std::string("a/b"), std::string("a\0", 2), std::string(64, 'a')}) {
    EXPECT_FALSE(IsResourceId(id)) << id;
  }
  EXPECT_TRUE(IsResourceId(std::string(63, 'a')));
}

TEST(ResourceNameTest, ANameOfAnotherCollectionIsRefusedWithTheWantedForm) {
  const auto parsed = ParseResourceName("name", "tenants/t/adapters/a", "jobs");
  EXPECT_TRUE(absl::IsInvalidArgument(parsed.status()));
  EXPECT_THAT(std::string(parsed.status().message()),
              HasSubstr("name is \"tenants/t/adapters/a\", want tenants/{tenant}/jobs/{id}"));
  EXPECT_EQ(TenantOf("tenants/t/adapters/a"), "t");
  EXPECT_EQ(TenantOf("workers/w"), "");
}

TEST(JobSpecTest, DefaultsAreThoseOfPeftAndTransformers) {
  const auto job = CompleteJob(GoodJob(), "t", "a");
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->name(), "tenants/t/jobs/a");
  EXPECT_EQ(job->priority_class(), v1::NORMAL);
  EXPECT_EQ(job->retry_policy().max_retries(), 5);
  const v1::TrainSpec& train = job->train();
  EXPECT_EQ(train.adapter(), "tenants/t/adapters/a");
  EXPECT_EQ(train.lora().rank(), 8);
  EXPECT_EQ(train.lora().lora_alpha(), 8);
  EXPECT_THAT(train.lora().target_modules(), ::testing::ElementsAre("all-linear"));
  EXPECT_EQ(train.arguments().num_train_epochs(), 3);
  EXPECT_EQ(train.arguments().per_device_train_batch_size(), 8);
  EXPECT_EQ(train.arguments().adam_beta2(), 0.999);
  EXPECT_EQ(train.arguments().max_grad_norm(), 1);
  EXPECT_EQ(train.arguments().seed(), 42);
  EXPECT_EQ(train.text().truncation(), v1::TextSettings::ERROR);
  // These follow the base, which only the store knows.
  EXPECT_FALSE(train.text().has_max_length());
  EXPECT_FALSE(train.has_micro_batch_tokens());
  EXPECT_EQ(train.compute_type(), v1::NUMBER_TYPE_UNSPECIFIED);
}

TEST(JobSpecTest, AJobInFp8WantsAGpu) {
  v1::Job asked = GoodJob();
  asked.mutable_train()->set_compute_type(v1::FP8);
  const auto job = CompleteJob(asked, "t", "a");
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->placement().device_kind(), "cuda");
  asked.mutable_placement()->set_device_kind("cpu");
  const absl::Status refused = CompleteJob(asked, "t", "a").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("job.train.compute_type is FP8 and job.placement.device_kind \"cpu\", want "
                        "\"cuda\""));
}

TEST(JobSpecTest, WhatOnlyTheServerWritesIsIgnored) {
  v1::Job asked = GoodJob();
  asked.set_name("tenants/other/jobs/b");
  asked.mutable_status()->set_state(v1::SUCCEEDED);
  asked.mutable_create_time()->set_seconds(1);
  const auto job = CompleteJob(asked, "t", "a");
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->name(), "tenants/t/jobs/a");
  EXPECT_FALSE(job->has_status());
  EXPECT_FALSE(job->has_create_time());
}

TEST(JobSpecTest, EveryBadFieldIsNamedWithWhatItIsAndWhatIsWanted) {
  struct Case {
    std::string want_message;
    std::function<void(v1::Job*)> spoil;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto lora = [](v1::Job* j) { return j->mutable_train()->mutable_lora(); };
  const auto args = [](v1::Job* j) { return j->mutable_train()->mutable_arguments(); };
  const Case cases[] = {
      {"job.task is not set, want train", [](v1::Job* j) { j->clear_train(); }},
      {"job.train.base_model is \"\", want tenants/{tenant}/baseModels/{id}",
       [](v1::Job* j) { j->mutable_train()->clear_base_model(); }},
      {"job.train.dataset is \"tenants/u/datasets/d\", want a resource of tenants/t",
       [](v1::Job* j) { j->mutable_train()->set_dataset("tenants/u/datasets/d"); }},
      {"job.train.adapter is \"a\", want tenants/{tenant}/adapters/{id}",
       [](v1::Job* j) { j->mutable_train()->set_adapter("a"); }},
      {"job.train.lora.rank is 0, want 1..1024", [&](v1::Job* j) { lora(j)->set_rank(0); }},
      {"job.train.lora.rank is 1025, want 1..1024", [&](v1::Job* j) { lora(j)->set_rank(1025); }},
      {"job.train.lora.lora_alpha is 0, want > 0 and <= 65536",
       [&](v1::Job* j) { lora(j)->set_lora_alpha(0); }},
      {"job.train.lora.lora_dropout is 1, want >= 0 and < 1",
       [&](v1::Job* j) { lora(j)->set_lora_dropout(1); }},
      {"job.train.lora.target_modules has an empty name",
       [&](v1::Job* j) { lora(j)->add_target_modules(""); }},
      {"job.train.lora.rank_pattern[\"q\"] is 0, want 1..1024",
       [&](v1::Job* j) { (*lora(j)->mutable_rank_pattern())["q"] = 0; }},
      {"job.train.arguments.learning_rate is nan, want > 0 and <= 10",
       [&](v1::Job* j) { args(j)->set_learning_rate(nan); }},
      {"job.train.arguments.max_steps is -1, want 0..100000000",
       [&](v1::Job* j) { args(j)->set_max_steps(-1); }},
      {"job.train.arguments.warmup_ratio is 2, want >= 0 and <= 1",
       [&](v1::Job* j) { args(j)->set_warmup_ratio(2); }},
      {"job.train.arguments.adam_epsilon is 0, want > 0",
       [&](v1::Job* j) { args(j)->set_adam_epsilon(0); }},
      {"job.train.arguments.save_total_limit is 1, want 2..100",
       [&](v1::Job* j) { args(j)->set_save_total_limit(1); }},
      {"job.train.text.max_length is 1, want 2..131072",
       [](v1::Job* j) { j->mutable_train()->mutable_text()->set_max_length(1); }},
      {"job.train.micro_batch_tokens is 99, want 100..131072",
       [](v1::Job* j) {
         j->mutable_train()->mutable_text()->set_max_length(100);
         j->mutable_train()->set_micro_batch_tokens(99);
       }},
      {"job.placement.memory_bytes_min is -1, want 0",
       [](v1::Job* j) { j->mutable_placement()->set_memory_bytes_min(-1); }},
      {"job.placement.device_kind is \"tpu\", want \"cpu\", \"cuda\" or nothing",
       [](v1::Job* j) { j->mutable_placement()->set_device_kind("tpu"); }},
      {"job.retry_policy.max_retries is -2, want -1..1000",
       [](v1::Job* j) { j->mutable_retry_policy()->set_max_retries(-2); }},
      {"job.priority_class is 9, want 1..3",
       [](v1::Job* j) { j->set_priority_class(static_cast<v1::PriorityClass>(9)); }},
      {"job.display_name has 257 bytes, want at most 256",
       [](v1::Job* j) { j->set_display_name(std::string(257, 'x')); }},
      {"job.labels has 65 entries, want at most 64",
       [](v1::Job* j) {
         for (int i = 0; i < 65; ++i) (*j->mutable_labels())[absl::StrCat(i)] = "";
       }},
  };
  for (const Case& c : cases) {
    v1::Job job = GoodJob();
    c.spoil(&job);
    const absl::Status status = CompleteJob(job, "t", "a").status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.want_message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.want_message));
  }
}

TEST(MessageDifferenceTest, TheFirstDifferingFieldIsNamedByItsPath) {
  const v1::Job a = GoodJob();
  EXPECT_EQ(FirstDifference(a, a), "");

  v1::Job b = a;
  b.mutable_train()->mutable_lora()->set_rank(16);
  EXPECT_EQ(FirstDifference(a, b), "train.lora");  // Absent in a as a whole.
  v1::Job c = b;
  c.mutable_train()->mutable_lora()->set_rank(32);
  EXPECT_EQ(FirstDifference(b, c), "train.lora.rank");
  c = b;
  c.mutable_train()->mutable_lora()->add_target_modules("q_proj");
  EXPECT_EQ(FirstDifference(b, c), "train.lora.target_modules[0]");
  c = b;
  (*c.mutable_labels())["team"] = "x";
  EXPECT_EQ(FirstDifference(b, c), "labels");
}

TEST(MessageDifferenceTest, ADefaultThatIsWrittenDiffersFromOneThatIsNot) {
  v1::LoraConfig absent;
  v1::LoraConfig written;
  written.set_rank(0);
  EXPECT_EQ(FirstDifference(absent, written), "rank");
}

TEST(MessageDifferenceTest, TheOrderOfMapEntriesDoesNotCount) {
  v1::Job a;
  v1::Job b;
  for (int i = 0; i < 50; ++i) (*a.mutable_labels())[absl::StrCat(i)] = "x";
  for (int i = 49; i >= 0; --i) (*b.mutable_labels())[absl::StrCat(i)] = "x";
  EXPECT_EQ(FirstDifference(a, b), "");
}

StoredRequest Store(const google::protobuf::Message& request, const std::string& rpc) {
  StoredRequest stored;
  stored.set_tenant("t");
  stored.set_rpc(rpc);
  stored.set_request_id("id");
  stored.set_request(request.SerializeAsString());
  stored.set_job("tenants/t/jobs/a");
  return stored;
}

TEST(RequestLogTest, TheSameRequestFindsItsJobAndAnotherNamesTheField) {
  RequestLog log;
  v1::Job request = GoodJob();
  EXPECT_EQ(log.Find("t", "CreateJob", "id"), nullptr);
  ASSERT_TRUE(log.Store(Store(request, "CreateJob")).ok());
  const StoredRequest* stored = log.Find("t", "CreateJob", "id");
  ASSERT_NE(stored, nullptr);
  EXPECT_EQ(*JobOfRepeated(*stored, request), "tenants/t/jobs/a");

  request.mutable_train()->set_dataset("tenants/t/datasets/other");
  const absl::Status status = JobOfRepeated(*stored, request).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("train.dataset differs"));
}

TEST(RequestLogTest, AnIdIsUniqueByTenantAndRpc) {
  RequestLog log;
  const v1::Job request = GoodJob();
  ASSERT_TRUE(log.Store(Store(request, "CreateJob")).ok());
  EXPECT_EQ(log.Find("u", "CreateJob", "id"), nullptr);
  EXPECT_EQ(log.Find("t", "CancelJob", "id"), nullptr);
  EXPECT_TRUE(absl::IsDataLoss(log.Store(Store(request, "CreateJob"))));
}

TEST(RequestLogTest, WhatIsAboutAJobIsDroppedWithIt) {
  RequestLog log;
  const v1::Job request = GoodJob();
  StoredRequest other = Store(request, "RerunJob");
  other.set_job("tenants/t/jobs/ab");
  ASSERT_TRUE(log.Store(Store(request, "CreateJob")).ok());
  ASSERT_TRUE(log.Store(Store(request, "CancelJob")).ok());
  ASSERT_TRUE(log.Store(other).ok());
  EXPECT_EQ(log.About("tenants/t/jobs/a").size(), 2U);
  log.DropAbout("tenants/t/jobs/a");
  EXPECT_EQ(log.Find("t", "CreateJob", "id"), nullptr);
  EXPECT_EQ(log.Find("t", "CancelJob", "id"), nullptr);
  EXPECT_NE(log.Find("t", "RerunJob", "id"), nullptr);
  EXPECT_TRUE(log.About("tenants/t/jobs/a").empty());
}

TEST(RequestLogTest, ABadIdIsRefused) {
  EXPECT_TRUE(CheckRequestId(std::string(64, 'x')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckRequestId(std::string(65, 'x'))));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckRequestId("a\n")));
}

}  // namespace
}  // namespace deltaworks::scheduler
