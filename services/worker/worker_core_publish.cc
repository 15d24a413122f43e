// What an attempt brings to the store: checkpoints, then the result, which is read back and
// compared before it is reported. One thing of an attempt is on its way at a time.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/log.h"
#include "services/worker/worker_core.h"

namespace deltaworks::services {

void WorkerCore::Advance(HeldAttempt& attempt) {
  if (stopped_ || attempt.busy || attempt.retry_timer != 0 || attempt.stopping || attempt.left)
    return;
  if (!LeaseHolds(attempt) && !attempt.result_reported) return;
  if (attempt.to_publish != nullptr) {
    PublishCheckpoint(attempt);
  } else if (attempt.result.has_value()) {
    AdvanceResult(attempt);
  } else if (attempt.trainer == TrainerState::kGone && attempt.gang_timer == 0) {
    attempt.left = true;
    UrgentNews();
  }
}

void WorkerCore::PublishCheckpoint(HeldAttempt& attempt) {
  if (attempt.to_publish->step <= attempt.committed_step) {
    attempt.to_publish.reset();
    Advance(attempt);
    return;
  }
  attempt.busy = true;
  auto artifact = std::exchange(attempt.to_publish, nullptr);
  publisher_.Publish(attempt.key.job, artifact,
                     [this, key = attempt.key, artifact](const absl::Status& status) {
                       OnCheckpointPublished(key, artifact, status);
                     });
}

void WorkerCore::OnCheckpointPublished(const AttemptKey& key,
                                       std::shared_ptr<const Artifact> artifact,
                                       const absl::Status& status) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) return;
  attempt->busy = false;
  if (attempt->stopping) return;
  if (status.ok()) {
    attempt->retry_wait = absl::ZeroDuration();
    metrics_.checkpoints_published.Increment();
    metrics_.bytes_published.Increment(static_cast<double>(artifact->size_bytes));
    v1::CheckpointReport& report = attempt->published.emplace();
    report.set_step(artifact->step);
    report.set_manifest_digest(artifact->manifest_digest);
    report.set_size_bytes(artifact->size_bytes);
    UrgentNews();
    Advance(*attempt);
    return;
  }
  metrics_.publish_failures.Increment();
  AddLog(
      *attempt, v1::JobEvent::WARNING,
      absl::StrCat("checkpoint at step ", artifact->step, " was not stored: ", status.message(),
                   attempt->result.has_value() ? "" : "; the job goes on and it is tried again"));
  News();
  // A newer one takes its place; one that the result makes needless is given up.
  if (attempt->to_publish == nullptr && !attempt->result.has_value()) {
    attempt->to_publish = std::move(artifact);
  }
  ArmRetry(*attempt);
}

void WorkerCore::AdvanceResult(HeldAttempt& attempt) {
  const AttemptKey& key = attempt.key;
  switch (attempt.stage) {
    case ResultStage::kUpload:
      attempt.busy = true;
      publisher_.Publish(
          key.job, attempt.result->artifact,
          [this, key](const absl::Status& status) { OnResultPublished(key, status); });
      return;
    case ResultStage::kReadBack:
      attempt.busy = true;
      publisher_.ReadBack(key.job, attempt.result->artifact,
                          [this, key](absl::StatusOr<Publisher::AdapterBytes> bytes) {
                            OnReadBack(key, std::move(bytes));
                          });
      return;
    case ResultStage::kVerify:
    case ResultStage::kVerified:
      return;
  }
}

void WorkerCore::OnResultPublished(const AttemptKey& key, const absl::Status& status) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) return;
  attempt->busy = false;
  if (attempt->stopping) return;
  if (!status.ok()) {
    metrics_.publish_failures.Increment();
    AddLog(*attempt, v1::JobEvent::WARNING,
           absl::StrCat("the result was not stored: ", status.message(), "; it is tried again"));
    News();
    ArmRetry(*attempt);
    return;
  }
  attempt->retry_wait = absl::ZeroDuration();
  metrics_.bytes_published.Increment(static_cast<double>(attempt->result->artifact->size_bytes));
  attempt->stage = ResultStage::kReadBack;
  Advance(*attempt);
}

void WorkerCore::OnReadBack(const AttemptKey& key, absl::StatusOr<Publisher::AdapterBytes> bytes) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) return;
  attempt->busy = false;
  if (attempt->stopping) return;
  if (bytes.ok() && attempt->trainer == TrainerState::kGone) {
    // It was uploaded again: they have the digests of those that were compared.
    attempt->stage = ResultStage::kVerified;
    UrgentNews();
  } else if (bytes.ok()) {
    attempt->stage = ResultStage::kVerify;
    attempt->busy = true;
    trainer_.Verify(key, std::move(bytes->adapter_model), std::move(bytes->adapter_config));
  } else if (absl::IsDataLoss(bytes.status())) {
    ResultIsCorrupt(*attempt, bytes.status());
  } else {
    AddLog(*attempt, v1::JobEvent::WARNING,
           absl::StrCat("the result was not read back: ", bytes.status().message(),
                        "; it is tried again"));
    News();
    ArmRetry(*attempt);
  }
}

void WorkerCore::OnVerified(const AttemptKey& key, absl::Status status) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) return;
  attempt->busy = false;
  if (attempt->stopping) return;
  if (absl::IsDataLoss(status)) {
    ResultIsCorrupt(*attempt, status);
    return;
  }
  if (!status.ok()) {  // Not the result's fault: no room for the second adapter, for example.
    AddLog(*attempt, v1::JobEvent::WARNING,
           absl::StrCat("the result was not tried: ", status.message(), "; it is tried again"));
    News();
    attempt->stage = ResultStage::kReadBack;
    ArmRetry(*attempt);
    return;
  }
  attempt->stage = ResultStage::kVerified;
  // What it has in memory is wanted by the job that is granted as soon as the result is accepted.
  DropRun(*attempt);
  UrgentNews();
}

void WorkerCore::ResultIsCorrupt(HeldAttempt& attempt, const absl::Status& status) {
  if (++attempt.corrupt_reads >= options_.corrupt_reads_max) {
    v1::Failure failure;
    failure.set_code("BLOB_CORRUPT");
    failure.set_fault(v1::Failure::PLATFORM);
    failure.set_message(
        absl::StrCat("the adapter read back from the store is not the one trained, ",
                     attempt.corrupt_reads, " times: ", status.message()));
    Fail(attempt, std::move(failure));
    return;
  }
  AddLog(attempt, v1::JobEvent::WARNING,
         absl::StrCat("the result is uploaded again: ", status.message()));
  News();
  attempt.stage = ResultStage::kUpload;
  ArmRetry(attempt);
}

void WorkerCore::ArmRetry(HeldAttempt& attempt) {
  attempt.retry_wait =
      std::clamp(attempt.retry_wait * 2, options_.publish_retry_first, options_.publish_retry_max);
  attempt.retry_timer = loop_.PostAfter(attempt.retry_wait, [this, key = attempt.key] {
    HeldAttempt* due = Find(key);
    if (due == nullptr) return;
    due->retry_timer = 0;
    Advance(*due);
  });
}

}  // namespace deltaworks::services
