#include "services/inference/engine_job.h"

namespace deltaworks::services {

void EngineJob::End(absl::Status status) {
  // Before anybody hears of the end: who then wants room for another model shall find it.
  model_ = ModelHandle();
  MutexLock lock(&mutex_);
  ended_ = true;
  status_ = std::move(status);
  changed_.SignalAll();
}

GenerationJob::Progress GenerationJob::Wait(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  // Waking early does no harm: the caller asks again.
  if (!ended_ && progress_.token_ids.empty() && progress_.text.empty()) {
    changed_.WaitWithTimeout(&mutex_, timeout);
  }
  progress_.ended = ended_;
  progress_.status = status_;
  Progress taken = std::move(progress_);
  progress_ = Progress();
  progress_.finish = taken.finish;
  return taken;
}

void GenerationJob::Append(absl::string_view text, int32_t token_id) {
  MutexLock lock(&mutex_);
  progress_.text.append(text.data(), text.size());
  progress_.token_ids.push_back(token_id);
  changed_.SignalAll();
}

void GenerationJob::Finished(Finish finish, absl::string_view last_text) {
  MutexLock lock(&mutex_);
  progress_.text.append(last_text.data(), last_text.size());
  progress_.finish = finish;
}

bool ScoreJob::Wait(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  if (!ended_) changed_.WaitWithTimeout(&mutex_, timeout);
  return ended_;
}

absl::Status ScoreJob::status() {
  MutexLock lock(&mutex_);
  return status_;
}

}  // namespace deltaworks::services
