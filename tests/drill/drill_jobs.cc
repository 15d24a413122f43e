#include "tests/drill/drill_jobs.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/e2e/workload.h"
#include "trainer/base/sha256.h"

namespace deltaworks::drill {
namespace {

struct Spec {
  const char* base;
  const char* dataset;
  int rank;
  std::vector<const char*> target_modules;  // None: all linear layers.
  int64_t steps;
  double learning_rate;
  int batch_size;
  int accumulation_steps;
  double dropout = 0;
  int64_t save_steps = 0;
  int64_t eval_steps = -1;  // -1: no evaluation.
};

const std::vector<Spec>& Specs() {
  static const auto* const specs = new std::vector<Spec>{
      {"f32", "many", 4, {}, 300, 5e-3, 16, 4, 0.1},
      {"f32", "few", 8, {"q_proj", "v_proj"}, 800, 1e-3, 8, 2},
      {"f32", "few", 2, {}, 1200, 2e-3, 4, 1, 0, 0, 400},
      {"f32", "many", 32, {}, 250, 5e-4, 16, 4, 0, 25},
      {"bf16", "many", 16, {"up_proj", "down_proj"}, 400, 1e-3, 16, 2, 0.05},
      {"bf16", "few", 4, {"q_proj"}, 1000, 5e-3, 4, 2, 0, 100, 0},
  };
  return *specs;
}

std::string Under(const std::string& tenant, const std::string& collection, const std::string& id) {
  return absl::StrCat(e2e::Parent(tenant), "/", collection, "/", id);
}

}  // namespace

int SpecCount() { return static_cast<int>(Specs().size()); }

int64_t StepsOf(int spec) { return Specs().at(static_cast<size_t>(spec)).steps; }

v1::CreateJobRequest RequestOf(int spec, const std::string& tenant) {
  const Spec& of = Specs().at(static_cast<size_t>(spec));
  v1::CreateJobRequest request = e2e::JobRequest(/*id=*/"", of.steps);
  request.set_parent(e2e::Parent(tenant));
  (*request.mutable_job()->mutable_labels())[kSpecLabel] = absl::StrCat(spec);
  v1::TrainSpec& train = *request.mutable_job()->mutable_train();
  train.set_base_model(Under(tenant, "baseModels", of.base));
  train.set_dataset(Under(tenant, "datasets", of.dataset));
  train.clear_adapter();
  train.mutable_lora()->set_rank(of.rank);
  train.mutable_lora()->set_lora_dropout(of.dropout);
  for (const char* module : of.target_modules) train.mutable_lora()->add_target_modules(module);
  v1::TrainingArguments& arguments = *train.mutable_arguments();
  arguments.set_learning_rate(of.learning_rate);
  arguments.set_per_device_train_batch_size(of.batch_size);
  arguments.set_gradient_accumulation_steps(of.accumulation_steps);
  arguments.set_save_steps(of.save_steps);
  if (of.eval_steps >= 0) {
    train.set_validation_dataset(Under(tenant, "datasets", "held-out"));
    arguments.set_eval_steps(of.eval_steps);
  }
  return request;
}

void AddBasesAndData(e2e::Platform& platform, const std::string& tenant) {
  e2e::ImportBase(platform, {.tenant = tenant, .id = "f32", .form = v1::F32});
  e2e::ImportBase(platform, {.tenant = tenant, .id = "bf16", .form = v1::BF16});
  e2e::AddDataset(platform, "many", 200, 1, tenant);
  e2e::AddDataset(platform, "few", 40, 2, tenant);
  e2e::AddDataset(platform, "held-out", 10, 3, tenant);
}

Files FilesOf(e2e::Platform& platform, const std::string& version) {
  Files files;
  for (const auto& [name, file] : e2e::Download(platform, version)) {
    files[name] = Sha256Digest(file.bytes);
  }
  return files;
}

References RunReferences(e2e::Platform& platform, const std::string& tenant) {
  std::vector<std::string> names;
  for (int spec = 0; spec < SpecCount(); ++spec) {
    v1::CreateJobRequest request = RequestOf(spec, tenant);
    (*request.mutable_job()->mutable_labels())[kUndisturbedLabel] = "yes";
    request.mutable_job()->mutable_placement()->set_cohort(v1::Placement::COHORT_ALONE);
    names.push_back(e2e::Must(platform.training_of(tenant).CreateJob(request)).name());
  }
  References references;
  for (const std::string& name : names) {
    const v1::Job job = e2e::AwaitEnd(platform, name);
    CHECK_EQ(job.status().state(), v1::SUCCEEDED) << e2e::Describe(job);
    CHECK_EQ(job.status().attempt_count(), 1) << e2e::Describe(job);
    references.push_back(FilesOf(platform, job.status().result().version()));
  }
  return references;
}

}  // namespace deltaworks::drill
