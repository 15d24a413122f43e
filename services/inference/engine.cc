#include "services/inference/engine.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/log.h"
#include "services/inference/device_model.h"
#include "services/inference/text_stream.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using trainer::GeneratedToken;

absl::Status Stopping() { return absl::UnavailableError("inference stops: repeat elsewhere"); }

// Why the job is to end now; OK if it is not.
absl::Status Unwanted(const EngineJob& job, absl::Duration now) {
  if (job.cancelled()) return absl::CancelledError("the caller cancelled");
  if (now >= job.deadline()) return absl::DeadlineExceededError("the caller's deadline passed");
  return absl::OkStatus();
}

trainer::GenerationRequest RequestOf(const GenerationJob& job) {
  return {.prompt = job.task.prompt,
          .adapter = job.model().adapter == nullptr ? nullptr : job.model().adapter->device.get(),
          .sampling = job.task.sampling,
          .max_new_tokens = job.task.max_new_tokens,
          .stop_tokens = job.model().base->end_tokens()};
}

}  // namespace

Engine::Engine(const Options& options, BackendFactory make_backend, InferenceMetrics& metrics,
               const Clock& clock)
    : options_(options),
      make_backend_(std::move(make_backend)),
      metrics_(metrics),
      clock_(clock),
      thread_([this] { Run(); }) {}

Engine::~Engine() {
  {
    MutexLock lock(&mutex_);
    draining_ = true;
    stopping_ = true;
  }
  changed_.SignalAll();
  thread_.join();
}

int64_t Engine::ContextOf(const trainer::ModelConfig& config) const {
  return std::min({options_.context_max, options_.kv_tokens_max, config.max_position_embeddings});
}

absl::Status Engine::Submit(std::shared_ptr<GenerationJob> job) {
  MutexLock lock(&mutex_);
  return Enqueue(std::move(job), new_generations_);
}

absl::Status Engine::Submit(std::shared_ptr<ScoreJob> job) {
  MutexLock lock(&mutex_);
  return Enqueue(std::move(job), new_scores_);
}

template <typename Job>
absl::Status Engine::Enqueue(std::shared_ptr<Job> job, std::deque<std::shared_ptr<Job>>& jobs) {
  if (draining_) return Stopping();
  if (jobs_ >= options_.streams_max + options_.queue_max) {
    return absl::ResourceExhaustedError(absl::StrCat(
        jobs_, " requests are answered or wait, want at most streams_max + queue_max = ",
        options_.streams_max + options_.queue_max, ": repeat later"));
  }
  job->times.submitted = clock_.Monotonic();
  jobs.push_back(std::move(job));
  ++jobs_;
  changed_.SignalAll();
  return absl::OkStatus();
}

int64_t Engine::jobs() const {
  MutexLock lock(&mutex_);
  return jobs_;
}

void Engine::Drain(absl::Duration deadline) {
  const absl::Duration end = clock_.Monotonic() + deadline;
  MutexLock lock(&mutex_);
  draining_ = true;
  while (jobs_ > 0) {
    const absl::Duration left = end - clock_.Monotonic();
    if (left <= absl::ZeroDuration()) break;
    idle_.WaitWithTimeout(&mutex_, left);
  }
  cut_ = true;
  while (jobs_ > 0) idle_.Wait(&mutex_);
}

// ---- The engine's thread ----

void Engine::Run() {
  while (TakeJobs()) {
    EndUnwanted();
    Admit();
    StepStreams();
    ScoreOnce();
  }
  EndAll(Stopping());
}

bool Engine::TakeJobs() {
  bool cut = false;
  {
    MutexLock lock(&mutex_);
    ReportLengths();
    const bool busy = !queue_.empty() || !scores_.empty() || !streams_.empty();
    while (!busy && !stopping_ && new_generations_.empty() && new_scores_.empty()) {
      changed_.Wait(&mutex_);
    }
    for (auto& job : new_generations_) queue_.push_back(std::move(job));
    for (auto& job : new_scores_) scores_.push_back(std::move(job));
    new_generations_.clear();
    new_scores_.clear();
    if (stopping_) return false;
    cut = cut_;
  }
  if (cut) EndAll(Stopping());
  return true;
}

void Engine::ReportLengths() {
  const auto streams = static_cast<int64_t>(streams_.size());
  metrics_.queue_length.Set(static_cast<double>(jobs_ - streams));
  metrics_.streams_active.Set(static_cast<double>(streams));
}

void Engine::EndUnwanted() {
  const absl::Duration now = clock_.Monotonic();
  std::erase_if(queue_, [&](const auto& job) {
    const absl::Status status = Unwanted(*job, now);
    if (!status.ok()) EndJob(*job, status);
    return !status.ok();
  });
  std::erase_if(scores_, [&](const auto& job) {
    const absl::Status status = Unwanted(*job, now);
    if (!status.ok()) EndJob(*job, status);
    return !status.ok();
  });
  std::erase_if(streams_, [&](Stream& stream) {
    const absl::Status status = Unwanted(*stream.job, now);
    if (!status.ok()) {
      static_cast<void>(stream.model->generator().Remove(stream.number));
      EndStream(stream, status);
    }
    return !status.ok();
  });
}

void Engine::Admit() {
  std::set<const LoadedBase*> full;  // Bases whose pool has no room for somebody who came before.
  std::erase_if(queue_, [&](const std::shared_ptr<GenerationJob>& job) {
    const LoadedBase* base = job->model().base.get();
    if (static_cast<int64_t>(streams_.size()) >= options_.streams_max || full.contains(base)) {
      return false;
    }
    const bool gone = AdmitOne(job);
    if (!gone) full.insert(base);
    return gone;
  });
}

bool Engine::AdmitOne(const std::shared_ptr<GenerationJob>& job) {
  const absl::Duration begin = clock_.Monotonic();
  const absl::StatusOr<DeviceModel*> model = Install(job->model());
  job->times.install += clock_.Monotonic() - begin;
  if (!model.ok()) {
    EndJob(*job, model.status());
    return true;
  }
  // Asked at every token while it waits, so before the prompt is copied.
  const int64_t tokens = static_cast<int64_t>(job->task.prompt.size()) + job->task.max_new_tokens;
  if (!(*model)->pool().Fits(tokens)) return false;
  const absl::StatusOr<int64_t> number = (*model)->generator().Add(RequestOf(*job));
  if (!number.ok()) {
    EndJob(*job, number.status());
    return true;
  }
  job->times.admitted = clock_.Monotonic();
  metrics_.queue_seconds.Observe(
      absl::ToDoubleSeconds(job->times.admitted - job->times.submitted - job->times.install));
  metrics_.prompt_tokens.Increment(static_cast<double>(job->task.prompt.size()));
  streams_.push_back(
      {job, *model, *number,
       std::make_unique<TextStream>(job->model().base->tokenizer(), job->task.stop)});
  return true;
}

void Engine::StepStreams() {
  std::vector<DeviceModel*> models;
  for (const Stream& stream : streams_) {
    if (std::find(models.begin(), models.end(), stream.model) == models.end()) {
      models.push_back(stream.model);
    }
  }
  for (DeviceModel* model : models) StepModel(*model);
}

void Engine::StepModel(DeviceModel& model) {
  const absl::StatusOr<std::vector<GeneratedToken>> tokens = model.generator().Step();
  std::erase_if(streams_, [&](Stream& stream) {
    if (stream.model != &model) return false;
    if (!tokens.ok()) {
      static_cast<void>(model.generator().Remove(stream.number));
      EndStream(stream, tokens.status());
      return true;
    }
    const auto token =
        std::find_if(tokens->begin(), tokens->end(),
                     [&](const GeneratedToken& token) { return token.stream == stream.number; });
    if (token == tokens->end()) return false;
    return !Take(stream, token->token, token->finish == GeneratedToken::Finish::kStop,
                 token->finish == GeneratedToken::Finish::kLength);
  });
  if (!tokens.ok()) LogError("a step of generation failed", {{"error", tokens.status()}});
}

bool Engine::Take(Stream& stream, int32_t token, bool stopped, bool full) {
  GenerationJob& job = *stream.job;
  job.times.last_token = clock_.Monotonic();
  if (job.times.first_token == absl::ZeroDuration()) {
    job.times.first_token = job.times.last_token;
  }
  if (!stopped) {
    ++job.generated;
    metrics_.generated_tokens.Increment();
    job.Append(stream.text->Push(token), token);
    if (!full && !stream.text->stopped()) return true;
    if (!full) static_cast<void>(stream.model->generator().Remove(stream.number));
  }
  const std::string last = stream.text->Finish();
  stopped = stopped || stream.text->stopped();
  job.Finished(stopped ? GenerationJob::Finish::kStop : GenerationJob::Finish::kLength, last);
  EndStream(stream, absl::OkStatus());
  return false;
}

void Engine::EndStream(Stream& stream, absl::Status status) {
  GenerationJob& job = *stream.job;
  const absl::Duration decoding = job.times.last_token - job.times.first_token;
  if (job.generated > 1 && decoding > absl::ZeroDuration()) {
    metrics_.decode_tokens_per_second.Observe(static_cast<double>(job.generated - 1) /
                                              absl::ToDoubleSeconds(decoding));
  }
  EndJob(job, std::move(status));
}

void Engine::EndJob(EngineJob& job, absl::Status status) {
  job.End(std::move(status));
  MutexLock lock(&mutex_);
  if (--jobs_ == 0) idle_.SignalAll();
}

void Engine::EndAll(const absl::Status& status) {
  for (const auto& job : queue_) EndJob(*job, status);
  for (const auto& job : scores_) EndJob(*job, status);
  for (Stream& stream : streams_) {
    static_cast<void>(stream.model->generator().Remove(stream.number));
    EndStream(stream, status);
  }
  queue_.clear();
  scores_.clear();
  streams_.clear();
}

// ---- Scores ----

void Engine::ScoreOnce() {
  if (scores_.empty()) return;
  const std::shared_ptr<ScoreJob> job = std::move(scores_.front());
  scores_.pop_front();
  const absl::Status status = ScorePass(*job);
  if (!status.ok() || job->next_example == job->examples.size()) {
    EndJob(*job, status);
  } else {
    scores_.push_back(job);
  }
}

absl::Status Engine::ScorePass(ScoreJob& job) {
  const absl::Duration begin = clock_.Monotonic();
  DW_ASSIGN_OR_RETURN(DeviceModel* const model, Install(job.model()));
  job.times.install += clock_.Monotonic() - begin;
  const size_t first = job.next_example;
  size_t end = first;
  trainer::PackedBatch batch;
  batch.BeginSegment(job.model().adapter == nullptr ? nullptr : job.model().adapter->device.get(),
                     {});
  for (; end < job.examples.size(); ++end) {
    const trainer::Example& example = job.examples[end];
    if (example.label_count() == 0) continue;  // Left out for its length.
    if (batch.rows() > 0 && batch.rows() + example.rows() > options_.score_rows_max) break;
    batch.AppendDocument(absl::MakeConstSpan(example.ids).first(example.rows()),
                         example.RowLabels(), 1);
  }
  batch.EndSegment();
  job.next_example = end;
  if (batch.rows() == 0) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const std::vector<double> losses,
                      model->llama().Losses(batch, model->workspace()));
  size_t loss = 0;
  for (size_t i = first; i < end; ++i) {
    const int64_t labels = job.examples[i].label_count();
    for (int64_t label = 0; label < labels; ++label) {
      job.negative_log_likelihoods[i] += losses[loss++];
    }
    if (labels > 0) metrics_.scored_tokens.Increment(static_cast<double>(job.examples[i].tokens()));
  }
  return absl::OkStatus();
}

// ---- Models on the device ----

absl::StatusOr<trainer::Backend*> Engine::BackendOf(trainer::DType form) {
  std::unique_ptr<trainer::Backend>& backend = backends_[form];
  if (backend == nullptr) {
    DW_ASSIGN_OR_RETURN(backend, make_backend_(form));
  }
  return backend.get();
}

absl::StatusOr<DeviceModel*> Engine::InstallBase(LoadedBase& base) {
  if (base.device == nullptr) {
    DW_ASSIGN_OR_RETURN(trainer::Backend* const backend, BackendOf(base.form()));
    DW_ASSIGN_OR_RETURN(
        base.device,
        DeviceModel::OfBase(*backend, base,
                            {.context = ContextOf(base.config()),
                             .kv_tokens = options_.kv_tokens_max,
                             .generator = {options_.streams_max, options_.prompt_rows_max}}));
  }
  return static_cast<DeviceModel*>(base.device.get());
}

absl::StatusOr<DeviceModel*> Engine::Install(const ModelHandle& model) {
  DW_ASSIGN_OR_RETURN(DeviceModel* const base, InstallBase(*model.base));
  if (model.merge != nullptr) {
    std::unique_ptr<DeviceState>& device = model.merge->device;
    if (device == nullptr) {
      DW_ASSIGN_OR_RETURN(device, DeviceModel::OfMerge(*base, *model.merge));
    }
    return static_cast<DeviceModel*>(device.get());
  }
  if (model.adapter != nullptr && model.adapter->device == nullptr) {
    trainer::Backend& backend = base->llama().backend();
    DW_ASSIGN_OR_RETURN(std::unique_ptr<trainer::Adapter> adapter,
                        trainer::Adapter::Create(backend, model.adapter->peft.targets,
                                                 /*trainable=*/false));
    adapter->WriteParameters(model.adapter->peft.values);
    model.adapter->device = std::move(adapter);
  }
  return base;
}

}  // namespace deltaworks::services
