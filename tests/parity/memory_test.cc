// Store and worker each say what memory jobs need: the store before any worker is known, in parts
// that the scheduler adds up for those that it places together; the worker with its backend at
// hand, so that it can refuse one. The first must never be less than the second, or a job would be
// placed where it cannot run; nor much more, or workers stay empty.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "services/store/memory_bound.h"
#include "services/worker/memory_plan.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

// The shape of SmolLM2-135M with another vocabulary and depth.
trainer::ModelConfig Config(int64_t vocabulary, int64_t layers) {
  trainer::ModelConfig config;
  config.vocab_size = vocabulary;
  config.hidden_size = 576;
  config.intermediate_size = 1'536;
  config.num_hidden_layers = layers;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.max_position_embeddings = 8'192;
  return config;
}

// Here little hides what a few rows need.
trainer::ModelConfig Toy() {
  trainer::ModelConfig config = Config(/*vocabulary=*/50, /*layers=*/2);
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 16;
  return config;
}

constexpr int64_t kBaseBytes = int64_t{257} << 20;
constexpr int64_t kExamples = 2'000, kExampleTokens = 20;

struct Job {
  int64_t rank = 8;
  std::vector<std::string> modules = {"all-linear"};
  int64_t micro_batch_tokens = 2'048;
};

std::string NameOf(const std::vector<Job>& jobs) {
  return absl::StrJoin(jobs, "; ", [](std::string* out, const Job& job) {
    absl::StrAppend(out, "rank ", job.rank, " on ", absl::StrJoin(job.modules, ","), ", ",
                    job.micro_batch_tokens, " tokens");
  });
}

class MemoryTest : public ::testing::Test {
 protected:
  MemoryTest() {
    data_.train.resize(kExamples, {.ids = std::vector<int32_t>(kExampleTokens),
                                   .is_label = std::vector<bool>(kExampleTokens, true)});
  }

  struct Sums {
    int64_t store = 0;
    int64_t worker = 0;
  };
  Sums SumsOf(const trainer::Backend& backend, const trainer::ModelConfig& config,
              const std::vector<Job>& jobs) const {
    std::vector<v1::MemoryNeed> needs;
    std::vector<MemoryPlan> plans;
    for (const Job& job : jobs) {
      const auto targets = *trainer::ResolveTargets(
          {.rank = job.rank, .target_modules = job.modules}, trainer::LlamaModules(config));
      needs.push_back(MemoryNeedOf(config, targets,
                                   {.base_bytes = kBaseBytes,
                                    .compute_bytes = trainer::SizeOf(backend.compute_type()),
                                    .micro_batch_tokens = job.micro_batch_tokens,
                                    .data_examples = kExamples,
                                    .data_tokens = kExamples * kExampleTokens}));
      plans.push_back(
          PlanMemory(backend, config, kBaseBytes, targets, job.micro_batch_tokens, data_));
      EXPECT_GE(needs.back().own_bytes(), plans.back().own_bytes()) << NameOf({job});
      EXPECT_LE(needs.back().own_bytes(), plans.back().own_bytes() * 17 / 16 + 8192)
          << NameOf({job});
    }
    std::vector<const MemoryPlan*> together;
    for (const MemoryPlan& plan : plans) together.push_back(&plan);
    return {.store = MemoryBound(needs),
            .worker = kProcessBytes + CohortMemory(backend, config, together)};
  }

  trainer::TrainingData data_;
};

TEST_F(MemoryTest, TheStoresBoundIsNeverBelowTheWorkersPlan) {
  for (const trainer::DType type : {trainer::DType::kF32, trainer::DType::kBF16}) {
    for (const int threads : {1, 2, 64}) {
      const auto backend = *trainer::NewCpuBackend({.compute_type = type, .threads = threads});
      for (const auto& config : {Config(49'152, 30), Config(151'936, 2), Config(300, 2), Toy()}) {
        for (const int64_t rank : {1, 8, 64, 1'024}) {
          for (const std::vector<std::string>& modules :
               {std::vector<std::string>{"all-linear"}, std::vector<std::string>{"q_proj"}}) {
            for (const int64_t tokens : {2, 2'048, 8'192}) {
              const Job job = {rank, modules, tokens};
              const Sums sums = SumsOf(*backend, config, {job});
              EXPECT_GE(sums.store, sums.worker)
                  << trainer::NameOf(type) << ", " << threads << " threads, vocabulary "
                  << config.vocab_size << ": " << NameOf({job});
              const auto targets = *trainer::ResolveTargets(
                  {.rank = rank, .target_modules = modules}, trainer::LlamaModules(config));
              EXPECT_EQ(
                  sums.worker,
                  PlanMemory(*backend, config, kBaseBytes, targets, tokens, data_).total_bytes());
            }
          }
        }
      }
    }
  }
}

// Where columns of the one meet rows of another, jobs that are all alike, and any.
std::vector<std::vector<Job>> Cohorts() {
  std::vector<std::vector<Job>> cohorts = {
      {{64, {"q_proj"}, 64}, {64, {"down_proj"}, 2'048}},
      {{64, {"all-linear"}, 64}, {1, {"q_proj"}, 2'048}},
      {{1, {"all-linear"}, 64}, {1, {"k_proj"}, 64}},
      std::vector<Job>(8, {8, {"all-linear"}, 2'048}),
      std::vector<Job>(8, {1, {"q_proj"}, 64}),
      {{64, {"q_proj"}, 65}, {64, {"o_proj"}, 127}, {64, {"up_proj"}, 63}, {64, {"down_proj"}, 2}}};
  const std::vector<std::vector<std::string>> modules = {
      {"all-linear"}, {"q_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}};
  std::mt19937_64 random(7);
  const auto pick = [&](const auto& values) { return values[random() % values.size()]; };
  for (size_t jobs = 1; jobs <= 8; ++jobs) {
    std::vector<Job>& cohort = cohorts.emplace_back();
    for (size_t i = 0; i < jobs; ++i) {
      cohort.push_back({pick(std::vector<int64_t>{1, 2, 4, 8, 16, 32, 64}), pick(modules),
                        64 + static_cast<int64_t>(random() % (2'048 - 64 + 1))});
    }
  }
  return cohorts;
}

TEST_F(MemoryTest, ForJobsThatTrainTogetherTheStoresPartsAddUpToNoLessThanTheWorkersPlan) {
  // The store does not know how many threads a worker has, and counts on 64; and where a pass has
  // the most columns of one group, it counts those of all four.
  struct Case {
    trainer::ModelConfig config;
    int threads;
    double factor;
  };
  std::vector<Case> cases;
  for (const int threads : {1, 2, 64}) {
    cases.push_back({Config(49'152, 30), threads, threads == 64 ? 1.2 : 1.4});
    cases.push_back({Config(151'936, 2), threads, threads == 64 ? 1.5 : 2.0});
    cases.push_back({Config(300, 2), threads, threads == 64 ? 2.0 : 3.0});
  }
  for (const trainer::DType type : {trainer::DType::kF32, trainer::DType::kBF16}) {
    for (const auto& [config, threads, factor] : cases) {
      const auto backend = *trainer::NewCpuBackend({.compute_type = type, .threads = threads});
      for (const std::vector<Job>& jobs : Cohorts()) {
        const Sums sums = SumsOf(*backend, config, jobs);
        SCOPED_TRACE(absl::StrCat(trainer::NameOf(type), ", ", threads, " threads, vocabulary ",
                                  config.vocab_size, ": ", NameOf(jobs)));
        EXPECT_GE(sums.store, sums.worker);
        EXPECT_LE(static_cast<double>(sums.store), factor * static_cast<double>(sums.worker));
      }
    }
  }
}

}  // namespace
}  // namespace deltaworks::services
