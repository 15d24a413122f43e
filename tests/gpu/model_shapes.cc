#include "tests/gpu/model_shapes.h"

#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

namespace deltaworks::trainer {
namespace {

ModelConfig Llama31(int64_t hidden_size, int64_t intermediate_size, int64_t layers, int64_t heads) {
  ModelConfig config;
  config.hidden_size = hidden_size;
  config.intermediate_size = intermediate_size;
  config.num_hidden_layers = layers;
  config.num_attention_heads = heads;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 128256;
  config.rope_theta = 500000;
  config.max_position_embeddings = 131072;
  return config;
}

ModelConfig SmolLm2() {
  ModelConfig config;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_hidden_layers = 30;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.vocab_size = 49152;
  config.rope_theta = 100000;
  config.tie_word_embeddings = true;
  config.max_position_embeddings = 8192;
  return config;
}

std::shared_ptr<const TrainingData> DataOf(const ModelConfig& config, int64_t examples,
                                           int64_t tokens) {
  auto data = std::make_shared<TrainingData>();
  std::mt19937 random(2);
  for (int64_t i = 0; i < examples; ++i) {
    Example example;
    for (int64_t t = 0; t < tokens + 1; ++t) {
      example.ids.push_back(static_cast<int32_t>(random() % config.vocab_size));
      example.is_label.push_back(t > 0);
    }
    data->train.push_back(std::move(example));
  }
  return data;
}

}  // namespace

ModelConfig ConfigNamed(const std::string& name, int64_t layers) {
  ModelConfig config;
  if (name == "llama-70b") {
    config = Llama31(8192, 28672, 80, 64);
  } else if (name == "llama-8b") {
    config = Llama31(4096, 14336, 32, 32);
  } else {
    CHECK(name == "smollm2-135m") << "--model is " << name << ", want " << kModelNames;
    config = SmolLm2();
  }
  config.rms_norm_eps = 1e-5;
  if (layers > 0) config.num_hidden_layers = layers;
  return config;
}

JobShape ParseJob(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  JobShape job;
  CHECK(parts.size() == 2 && absl::SimpleAtoi(parts[0], &job.rank) &&
        absl::SimpleAtoi(parts[1], &job.examples))
      << "--job is " << text << ", want RANK:EXAMPLES";
  return job;
}

std::vector<JobShape> ParseJobs(absl::Span<const std::string> texts) {
  std::vector<JobShape> jobs;
  for (const std::string& text : texts) jobs.push_back(ParseJob(text));
  return jobs;
}

TrainingConfig ConfigOf(const JobShape& job, int64_t tokens, int64_t steps, double dropout) {
  TrainingConfig config;
  config.max_steps = steps;
  config.lora.rank = job.rank;
  config.lora.lora_alpha = 16;
  config.lora.lora_dropout = dropout;
  config.per_device_train_batch_size = job.examples;
  config.micro_batch_tokens = job.examples * (tokens + 1);
  return config;
}

std::vector<std::unique_ptr<TrainingRun>> NewRuns(const Llama& model,
                                                  absl::Span<const JobShape> jobs, int64_t tokens,
                                                  int64_t steps, double dropout) {
  std::vector<std::unique_ptr<TrainingRun>> runs;
  for (const JobShape& job : jobs) {
    auto run = TrainingRun::Create(model, ConfigOf(job, tokens, steps, dropout),
                                   DataOf(model.config(), job.examples, tokens), {});
    CHECK(run.ok()) << run.status();
    runs.push_back(*std::move(run));
  }
  return runs;
}

}  // namespace deltaworks::trainer
