#include "tests/e2e/scripted_worker.h"

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/base/spec_conversion.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/grpc_worker_sync_client.h"
#include "tests/e2e/await.h"
#include "tests/e2e/workload.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::e2e {
namespace {

constexpr char kWorker[] = "workers/e2e-cpu-9";
constexpr char kNumericsClass[] = "scripted";
constexpr double kLoss = 0.5;

}  // namespace

ScriptedWorker::ScriptedWorker(Platform& platform, const trainer::ModelConfig& config)
    : platform_(platform),
      model_(config),
      scheduler_(services::MakeGrpcWorkerSyncClient(
          platform.NewChannel(platform.scheduler(), platform.token(kPlatform)))) {}

v1::SyncRequest ScriptedWorker::NewReport() {
  v1::SyncRequest request;
  request.set_worker(kWorker);
  request.set_incarnation(1);
  request.set_report_number(++report_number_);
  v1::WorkerEnvironment& environment = *request.mutable_environment();
  environment.set_numerics_class(kNumericsClass);
  environment.set_device("cpu:9");
  environment.set_device_kind("cpu");
  environment.set_memory_bytes(int64_t{8} << 30);
  environment.set_build_version("scripted");
  request.set_seen_term(term_);
  request.set_seen_revision(revision_);
  return request;
}

v1::SyncResponse ScriptedWorker::Sync(const v1::SyncRequest& request) {
  v1::SyncResponse response = Must(scheduler_->Sync(request, kPatience));
  term_ = response.term();
  revision_ = response.revision();
  return response;
}

v1::Assignment ScriptedWorker::AwaitJob() {
  v1::Assignment job;
  CHECK(Await(kPatience, [&] {
    const v1::SyncResponse answer = Sync(NewReport());
    for (const v1::Assignment& assignment : answer.assignments()) {
      if (assignment.has_train() && assignment.desired() == v1::Assignment::RUN) job = assignment;
    }
    return job.has_train();
  })) << "no job was assigned";
  return job;
}

ScriptedResult ScriptedWorker::SoundResult(const v1::Assignment& job) const {
  const v1::TrainFacts& facts = job.train().facts();
  ScriptedResult result;
  result.config = services::ToLoraConfig(job.train().spec().lora());
  const auto targets = Must(trainer::ResolveTargets(result.config, trainer::LlamaModules(model_)));
  result.tensors = trainer::AdapterTensors(targets);
  result.values.resize(static_cast<size_t>(trainer::TrainableParameters(targets)));
  for (size_t i = 0; i < result.values.size(); ++i) {
    result.values[i] = static_cast<float>(4 + i % 64) / 64;
  }
  result.base_digest = facts.base_source_digest();
  result.manifest.set_format_version(1);
  result.manifest.set_kind(v1::Manifest::ADAPTER);
  result.manifest.set_base_source_digest(facts.base_source_digest());
  result.manifest.set_base_form(facts.base_form());
  result.manifest.set_dataset_manifest_digest(facts.dataset_manifest_digest());
  result.manifest.set_numerics_class(kNumericsClass);
  result.manifest.set_step(facts.total_steps());
  result.manifest.set_probe_digest(Sha256Digest("probe"));
  return result;
}

UploadedResult ScriptedWorker::Upload(const v1::Assignment& job, const ScriptedResult& result) {
  trainer::PeftFiles files = trainer::SerializePeft(result.config, result.tensors, result.values,
                                                    "e2e/tiny", result.base_digest);
  v1::Manifest manifest = result.manifest;
  manifest.set_adapter_digest(Sha256Digest(files.adapter_model));
  if (result.spoil_bytes) result.spoil_bytes(files.adapter_model);
  services::StoreClient& store = platform_.store_of(kPlatform);
  const std::string tenant(services::TenantOf(job.job()));
  for (const auto& [path, bytes] : {std::pair(trainer::kAdapterConfigFile, &files.adapter_config),
                                    std::pair(trainer::kAdapterModelFile, &files.adapter_model)}) {
    *manifest.add_files() = Must(services::UploadBytes(store, tenant, path, *bytes));
  }
  const std::string digest = Must(services::UploadManifest(store, tenant, manifest));
  v1::CreatePinRequest pin;
  pin.mutable_pin()->set_owner(job.job());
  pin.mutable_pin()->set_digest(digest);
  Must(store.CreatePin(pin));
  return {digest, manifest.adapter_digest()};
}

v1::Assignment ScriptedWorker::Report(const v1::Assignment& job, const UploadedResult* result) {
  v1::SyncRequest request = NewReport();
  v1::AttemptReport& report = *request.add_attempts();
  const int64_t steps = job.train().facts().total_steps();
  report.set_job(job.job());
  report.set_lease_epoch(job.lease_epoch());
  report.set_attempt_id(job.attempt_id());
  report.set_phase(v1::AttemptReport::DONE);
  report.set_step(steps);
  if (result != nullptr) {
    report.mutable_result()->set_manifest_digest(result->manifest_digest);
    report.mutable_result()->set_adapter_digest(result->adapter_digest);
    report.mutable_result()->set_step(steps);
    report.mutable_result()->set_loss(kLoss);
  }
  const v1::SyncResponse response = Sync(request);
  for (const v1::Assignment& assignment : response.assignments()) {
    if (assignment.attempt_id() == job.attempt_id()) return assignment;
  }
  return v1::Assignment();
}

v1::Assignment ScriptedWorker::ReportUntilFinal(const v1::Assignment& job,
                                                const UploadedResult& result) {
  v1::Assignment answer;
  CHECK(Await(kPatience,
              [&] {
                answer = Report(job, answer.result_accepted() ? nullptr : &result);
                return answer.job_final() || answer.missing_blobs_size() > 0;
              }))
      << "neither final nor missing blobs: " << answer.DebugString()
      << Describe(GetJob(platform_, job.job()));
  return answer;
}

}  // namespace deltaworks::e2e
