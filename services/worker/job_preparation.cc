#include "services/worker/job_preparation.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/base/spec_conversion.h"
#include "services/clients/blob_transfer.h"
#include "services/worker/artifact.h"
#include "services/worker/seams.h"
#include "services/worker/training_task.h"
#include "trainer/base/status_macros.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/data/dataset_report.h"
#include "trainer/data/text_encoder.h"
#include "trainer/tokenizer/chat_template.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::services {
namespace {

// What a worker reads into memory at once.
constexpr int64_t kDatasetBytesMax = int64_t{8} << 30;
constexpr int64_t kCheckpointBytesMax = int64_t{64} << 30;

using Cancelled = std::function<bool()>;

TransferOptions OptionsOf(const Cancelled& cancelled) {
  TransferOptions options = CancelledBy(cancelled);
  options.retry.total_max = absl::Minutes(2);
  return options;
}

// Where what is fetched goes: only the base's files go to this machine's disk.
enum class FetchedTo { kDisk, kMemory };

// Of fetching: the store, the network or the disk is at fault. The message of a full disk names the
// path.
v1::Failure FetchFailure(absl::string_view what, FetchedTo to, const absl::Status& status) {
  std::string code = "WORKER_ERROR";
  if (absl::IsDataLoss(status)) code = "BLOB_CORRUPT";
  if (absl::IsResourceExhausted(status) && to == FetchedTo::kDisk) code = "DISK_FULL";
  return MakeFailure(code, v1::Failure::PLATFORM,
                     absl::StrCat("cannot fetch ", what, ": ", status.message()));
}

absl::StatusOr<v1::Manifest> FetchManifest(StoreClient& store, const BlobAccess& access,
                                           const std::string& digest,
                                           const TransferOptions& options) {
  DW_ASSIGN_OR_RETURN(const std::string bytes,
                      DownloadBytes(store, access, digest, kManifestBytesMax, options));
  return ParseManifest(bytes, digest);
}

// The lines of all files of a dataset, in the manifest's order.
absl::StatusOr<std::string> FetchDataset(StoreClient& store, const BlobAccess& access,
                                         const std::string& manifest_digest,
                                         const TransferOptions& options) {
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest,
                      FetchManifest(store, access, manifest_digest, options));
  std::string lines;
  for (const v1::ManifestFile& file : manifest.files()) {
    const int64_t room = kDatasetBytesMax - static_cast<int64_t>(lines.size());
    DW_ASSIGN_OR_RETURN(const std::string bytes,
                        DownloadBytes(store, access, file.digest(), room, options));
    lines += bytes;
    if (!lines.empty() && lines.back() != '\n') lines += '\n';
  }
  return lines;
}

absl::Status FetchCheckpoint(StoreClient& store, const BlobAccess& access,
                             const std::string& manifest_digest, const TransferOptions& options,
                             PreparedJob* job) {
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest,
                      FetchManifest(store, access, manifest_digest, options));
  const v1::ManifestFile* file = FindFile(manifest, kCheckpointFile);
  if (file == nullptr) {
    return absl::DataLossError(absl::StrCat(manifest_digest, " has no ", kCheckpointFile));
  }
  DW_ASSIGN_OR_RETURN(job->checkpoint,
                      DownloadBytes(store, access, file->digest(), kCheckpointBytesMax, options));
  const v1::ManifestFile* last_step = FindFile(manifest, kLastStepFile);
  if (last_step == nullptr) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const std::string bytes, DownloadBytes(store, access, last_step->digest(),
                                                             kManifestBytesMax, options));
  if (!job->last_step.ParseFromString(bytes)) {
    return absl::DataLossError(
        absl::StrCat(manifest_digest, ": ", kLastStepFile, " is no MetricPoint"));
  }
  return absl::OkStatus();
}

// Steps of PrepareJob; each returns false with `failure` filled in.
class Preparing {
 public:
  Preparing(const std::string& job_name, const v1::TrainTask& task, BaseCache& bases,
            StoreClient& store, const Cancelled& cancelled, const PrepareOptions& prepare)
      : tenant_(TenantOf(job_name)),
        job_name_(job_name),
        bases_(bases),
        store_(store),
        cancelled_(cancelled),
        prepare_(prepare),
        options_(OptionsOf(cancelled)),
        job_(std::make_unique<PreparedJob>()) {
    job_->task = task;
    job_->config = ToTrainingConfig(task.spec());
    job_->compute_type = ComputeTypeOf(task.spec(), task.facts());
    job_->identity = IdentityOf(task.facts());
  }

  Preparation Run() {
    Preparation preparation;
    // A step that needs nothing of the store does not hear that the job is no longer wanted.
    if (Wanted() && Gang() && Wanted() && Base() && Wanted() && Examples() && Wanted() &&
        Checkpoint()) {
      preparation.job = std::move(job_);
    } else {
      preparation.failure = std::move(failure_);
    }
    return preparation;
  }

 private:
  bool Fail(v1::Failure failure) {
    failure_ = std::move(failure);
    return false;
  }

  bool Wanted() {
    return !cancelled_() ||
           Fail(MakeFailure("WORKER_ERROR", v1::Failure::PLATFORM, "the job is no longer wanted"));
  }

  // Each thing is read through the resource that keeps it: a job itself keeps its checkpoints only.
  BlobAccess Through(const std::string& resource) const { return {tenant_, resource}; }

  // The gang's code if another member is gone, for then that is why.
  bool FailAfter(v1::Failure failure) {
    const absl::Status peers = job_->gang == nullptr ? absl::OkStatus() : job_->gang->PeerStatus();
    if (!peers.ok()) failure.set_code(kGangBroke);
    return Fail(std::move(failure));
  }

  bool Gang() {
    if (!job_->task.has_gang()) return true;
    if (!prepare_.meet) {
      return Fail(MakeFailure("WORKER_ERROR", v1::Failure::PLATFORM,
                              "this worker has no --gang_address, want one for a gang"));
    }
    auto gang = prepare_.meet(job_->task.gang());
    if (!gang.ok()) {
      return Fail(MakeFailure(kGangBroke, v1::Failure::PLATFORM,
                              absl::StrCat("the gang did not meet: ", gang.status().message())));
    }
    job_->gang = *std::move(gang);
    return true;
  }

  absl::StatusOr<std::string> EnsureBase() {
    const BlobAccess access = Through(job_->task.spec().base_model());
    const std::string& digest = job_->task.facts().base_manifest_digest();
    if (job_->gang == nullptr) return bases_.Ensure(access, digest, cancelled_);
    return bases_.EnsureInGang(access, digest, cancelled_, job_->gang->of_hosts());
  }

  bool Base() {
    absl::StatusOr<std::string> folder = EnsureBase();
    RetryState waiting(prepare_.full_disk);
    while (absl::IsResourceExhausted(folder.status()) && job_->gang == nullptr && !cancelled_() &&
           waiting.Pause()) {
      LogWarning("a job waits for room on the disk",
                 {{"job", job_name_}, {"error", folder.status()}});
      folder = EnsureBase();
    }
    if (!folder.ok()) {
      return FailAfter(FetchFailure("the base model", FetchedTo::kDisk, folder.status()));
    }
    job_->base_folder = *std::move(folder);
    return true;
  }

  bool Examples() {
    const v1::TrainFacts& facts = job_->task.facts();
    auto tokenizer = trainer::Tokenizer::FromFolder(job_->base_folder);
    if (!tokenizer.ok()) {
      return Fail(MakeFailure("BASE_MODEL_INVALID", v1::Failure::PLATFORM,
                              std::string(tokenizer.status().message())));
    }
    const trainer::TextEncoder encoder(
        **tokenizer,
        trainer::MakeChatRenderer(trainer::ChatTemplate::FromFolder(job_->base_folder)),
        ToTextSettings(job_->task.spec().text()));
    auto data = std::make_shared<trainer::TrainingData>();
    const v1::TrainSpec& spec = job_->task.spec();
    if (!Read(facts.dataset_manifest_digest(), Through(spec.dataset()), "train.dataset", encoder,
              &data->train)) {
      return false;
    }
    if (!facts.validation_manifest_digest().empty() &&
        !Read(facts.validation_manifest_digest(), Through(spec.validation_dataset()),
              "train.validation_dataset", encoder, &data->validation)) {
      return false;
    }
    job_->data = std::move(data);
    return true;
  }

  bool Read(const std::string& manifest_digest, const BlobAccess& access, const std::string& field,
            const trainer::TextEncoder& encoder, std::vector<trainer::Example>* examples) {
    const auto lines = FetchDataset(store_, access, manifest_digest, options_);
    if (!lines.ok()) return Fail(FetchFailure(field, FetchedTo::kMemory, lines.status()));
    auto read = trainer::ReadExamples(*lines, encoder);
    if (!read.ok()) {
      v1::Failure failure = MakeFailure("DATASET_INVALID", v1::Failure::USER,
                                        absl::StrCat(field, ": ", read.status().message()));
      failure.set_field(field);
      return Fail(std::move(failure));
    }
    *examples = *std::move(read);
    return true;
  }

  bool Checkpoint() {
    if (!job_->task.has_start_checkpoint()) return true;
    const absl::Status status =
        FetchCheckpoint(store_, Through(job_name_), job_->task.start_checkpoint().manifest_digest(),
                        options_, job_.get());
    return status.ok() || Fail(FetchFailure("the checkpoint", FetchedTo::kMemory, status));
  }

  const std::string tenant_;
  const std::string job_name_;
  BaseCache& bases_;
  StoreClient& store_;
  const Cancelled& cancelled_;
  const PrepareOptions& prepare_;
  const TransferOptions options_;
  std::unique_ptr<PreparedJob> job_;
  v1::Failure failure_;
};

}  // namespace

Preparation PrepareJob(const std::string& job_name, const v1::TrainTask& task, BaseCache& bases,
                       StoreClient& store, const std::function<bool()>& cancelled,
                       const PrepareOptions& options) {
  return Preparing(job_name, task, bases, store, cancelled, options).Run();
}

Preparation PrepareJob(const std::string& job_name, const v1::TrainTask& task, BaseCache& bases,
                       StoreClient& store, const std::shared_ptr<Cancellation>& cancellation,
                       trainer::TcpListener* gang_listener, const RetryPolicy& full_disk) {
  PrepareOptions options = {.meet = nullptr, .full_disk = full_disk};
  if (gang_listener != nullptr) {
    options.meet = [&](const v1::Gang& gang) {
      return GangMember::Meet(gang, *gang_listener, cancellation);
    };
  }
  return PrepareJob(
      job_name, task, bases, store, [&] { return cancellation->cancelled(); }, options);
}

void PreparerThread::Prepare(const std::string& job_name, const v1::TrainTask& task,
                             std::shared_ptr<Cancellation> cancellation, Done done) {
  worker_.Post([this, job_name, task, cancellation = std::move(cancellation),
                done = std::move(done)]() mutable {
    done(PrepareJob(job_name, task, bases_, store_, cancellation, gang_listener_));
  });
}

}  // namespace deltaworks::services
