#include "tests/e2e/workload.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/follow_job.h"
#include "tests/e2e/await.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::e2e {

absl::StatusOr<v1::BaseModel> StartImport(Platform& platform, const BaseOptions& options) {
  const std::string folder =
      absl::StrCat(platform.import_folder(), "/", options.tenant, "-", options.id);
  trainer::WriteTinyHfFolder(options.model, folder);
  v1::ImportBaseModelRequest request;
  request.set_parent(Parent(options.tenant));
  request.set_base_model_id(options.id);
  request.set_local_path(folder);
  request.set_form(options.form);
  request.set_origin(absl::StrCat("e2e/", options.id));
  return platform.store_of(options.tenant).ImportBaseModel(request);
}

v1::BaseModel AwaitImport(Platform& platform, const std::string& name) {
  services::StoreClient& store = platform.store_of(kPlatform);
  v1::BaseModel base;
  CHECK(Await(kPatience,
              [&] {
                base = Must(store.GetBaseModel(name));
                return base.state() != v1::BaseModel::IMPORTING;
              }))
      << name << " is still importing";
  return base;
}

trainer::TinyModel LargerModel(int64_t hidden_size) {
  trainer::TinyModel model = trainer::MakeTinyModel();
  model.config.hidden_size = hidden_size;
  model.config.intermediate_size = 4 * hidden_size;
  model.config.head_dim = 256;
  model.config.num_attention_heads = hidden_size / 256;
  std::mt19937 random(1);
  model.weights.clear();
  for (const auto& [name, shape] : trainer::LlamaTensorShapes(model.config)) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    const int middle = shape.size() == 1 ? 64 : 0;
    std::vector<float>& values = model.weights[name];
    values.resize(static_cast<size_t>(count));
    for (float& value : values) {
      value = static_cast<float>(middle + static_cast<int>(random() % 16) - 8) / 64.0f;
    }
  }
  return model;
}

v1::BaseModel ImportBase(Platform& platform, const BaseOptions& options) {
  const v1::BaseModel begun = Must(StartImport(platform, options));
  v1::BaseModel base = AwaitImport(platform, begun.name());
  CHECK_EQ(base.state(), v1::BaseModel::READY) << base.DebugString();
  return base;
}

std::string DatasetLines(int count, uint32_t seed) {
  static constexpr const char* kThings[] = {"library", "editor", "server",
                                            "parser",  "game",   "shell"};
  static constexpr const char* kKinds[] = {"small", "fast", "old", "free", "quiet"};
  std::mt19937 random(seed);
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const char* thing = kThings[random() % std::size(kThings)];
    const char* kind = kKinds[random() % std::size(kKinds)];
    absl::StrAppend(&lines, R"({"prompt": "Package )", i, " is a ", kind, " ", thing,
                    R"(. It is: ",)", R"( "completion": "the )", kind, " ", thing, "\"}\n");
  }
  return lines;
}

v1::Dataset AddDataset(Platform& platform, const std::string& id, int count, uint32_t seed,
                       const std::string& tenant) {
  services::StoreClient& store = platform.store_of(tenant);
  v1::CreateDatasetRequest request;
  request.set_parent(Parent(tenant));
  request.set_dataset_id(id);
  request.mutable_dataset()->set_blob_digest(
      Must(services::UploadBytes(store, tenant, "data.jsonl", DatasetLines(count, seed))).digest());
  return Must(store.CreateDataset(request));
}

v1::CreateJobRequest JobRequest(const std::string& id, int64_t max_steps) {
  v1::CreateJobRequest request;
  request.set_parent(Parent());
  request.set_job_id(id);
  v1::Job& job = *request.mutable_job();
  job.mutable_retry_policy()->set_max_retries(-1);
  v1::TrainSpec& spec = *job.mutable_train();
  spec.set_base_model(Parent() + "/baseModels/tiny");
  spec.set_dataset(Parent() + "/datasets/pairs");
  spec.mutable_lora()->set_rank(4);
  spec.mutable_lora()->set_lora_dropout(0.1);
  v1::TrainingArguments& arguments = *spec.mutable_arguments();
  arguments.set_max_steps(max_steps);
  arguments.set_learning_rate(5e-3);
  arguments.set_per_device_train_batch_size(16);
  spec.mutable_text()->set_max_length(128);
  return request;
}

v1::Job Submit(Platform& platform, const v1::CreateJobRequest& request) {
  return Must(platform.training_of().CreateJob(request));
}

v1::Job GetJob(Platform& platform, const std::string& name) {
  return Must(platform.training_of(kPlatform).GetJob(name));
}

std::string Describe(const v1::Job& job) {
  return absl::StrCat(job.name(), " is ", v1::JobState_Name(job.status().state()), " (",
                      job.status().message(), "), step ", job.status().progress().step(), "; ",
                      job.status().failure().ShortDebugString(),
                      job.status().waiting().ShortDebugString());
}

v1::Job AwaitJob(Platform& platform, const std::string& name,
                 const std::function<bool(const v1::Job&)>& condition, absl::Duration timeout) {
  v1::Job job;
  const bool came = Await(timeout, [&] {
    job = GetJob(platform, name);
    return condition(job);
  });
  CHECK(came) << "not within " << timeout << ": " << Describe(job);
  return job;
}

bool IsFinal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED;
}

v1::Job AwaitEnd(Platform& platform, const std::string& name) {
  return AwaitJob(platform, name, [](const v1::Job& job) { return IsFinal(job.status().state()); });
}

v1::Job AwaitStep(Platform& platform, const std::string& name, int64_t step) {
  return AwaitJob(platform, name, [step](const v1::Job& job) {
    CHECK(!IsFinal(job.status().state())) << "want it at step " << step << ": " << Describe(job);
    return job.status().state() == v1::RUNNING && job.status().progress().step() >= step;
  });
}

v1::Job RunToSuccess(Platform& platform, const v1::CreateJobRequest& request) {
  v1::Job job = AwaitEnd(platform, Submit(platform, request).name());
  EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
  return job;
}

History HistoryOf(Platform& platform, const std::string& name) {
  History history;
  v1::WatchJobRequest request;
  request.set_name(name);
  const absl::Status status = services::FollowJob(
      platform.training_of(kPlatform), request, {}, [&](const v1::WatchJobResponse& response) {
        history.events.insert(history.events.end(), response.events().begin(),
                              response.events().end());
        history.metrics.insert(history.metrics.end(), response.metrics().begin(),
                               response.metrics().end());
        return absl::OkStatus();
      });
  CHECK(status.ok()) << status;
  return history;
}

std::vector<v1::AdapterVersion> VersionsOf(Platform& platform, const std::string& adapter) {
  v1::ListVersionsRequest request;
  request.set_parent(adapter);
  const v1::ListVersionsResponse response =
      Must(platform.registry_of(kPlatform).ListVersions(request));
  return {response.versions().begin(), response.versions().end()};
}

Answer Generate(Platform& platform, const std::string& model, v1::ModelSelector::Mode mode) {
  v1::GenerateRequest request;
  request.set_parent(Parent());
  request.mutable_model()->set_model(model);
  request.mutable_model()->set_mode(mode);
  request.set_prompt("Package 7 is a fast parser. It is: ");
  request.set_max_new_tokens(16);
  Answer answer;
  const absl::Status status =
      platform.inference_of().Generate(request, [&](const v1::GenerateResponse& response) {
        answer.tokens.insert(answer.tokens.end(), response.token_ids().begin(),
                             response.token_ids().end());
        answer.last = response;
        return absl::OkStatus();
      });
  CHECK(status.ok()) << status;
  return answer;
}

std::map<std::string, DownloadedFile> Download(Platform& platform, const std::string& version) {
  std::map<std::string, DownloadedFile> files;
  DownloadedFile* file = nullptr;
  v1::DownloadVersionRequest request;
  request.set_name(version);
  const absl::Status status = platform.registry_of(kPlatform).DownloadVersion(
      request, [&](const v1::DownloadVersionResponse& piece) {
        if (!piece.path().empty()) {
          file = &files[piece.path()];
          file->digest = piece.digest();
        }
        CHECK(file != nullptr) << "the first piece has no path";
        file->bytes += piece.data();
        return absl::OkStatus();
      });
  CHECK(status.ok()) << status;
  return files;
}

}  // namespace deltaworks::e2e
