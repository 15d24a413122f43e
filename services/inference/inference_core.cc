#include "services/inference/inference_core.h"

#include <prometheus/histogram.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "services/base/page_token.h"
#include "services/base/resource_names.h"
#include "services/inference/request_checks.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// How soon a caller that went away is noticed while nothing comes.
constexpr absl::Duration kPoll = absl::Milliseconds(10);

google::protobuf::Duration Elapsed(absl::Duration duration) {
  return scheduler::ToProto(std::max(absl::ZeroDuration(), duration));
}

// The tenant of `parent`, if it is the caller's.
absl::StatusOr<std::string> TenantOfParent(const Caller& caller, const std::string& parent) {
  DW_ASSIGN_OR_RETURN(const auto ids, ParseName("parent", parent, kTenantPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, parent));
  return ids[0];
}

// Stops the job's work if the caller of this is gone before it has ended.
class CancelOnReturn {
 public:
  explicit CancelOnReturn(EngineJob& job) : job_(job) {}
  ~CancelOnReturn() { job_.Cancel(); }

 private:
  EngineJob& job_;
};

// Orders and pages LoadedModels, as ModelLoader::List().
std::string CursorOf(const v1::LoadedModel& model) {
  return absl::StrCat(model.name(), " ", static_cast<int>(model.mode()), " ",
                      model.base_source_digest());
}

void FillLast(const GenerationJob& job, GenerationJob::Finish finish, absl::Duration switch_time,
              const std::string& version, v1::GenerateResponse* response) {
  const JobTimes& times = job.times;
  response->set_finish_reason(finish == GenerationJob::Finish::kStop
                                  ? v1::GenerateResponse::STOP
                                  : v1::GenerateResponse::LENGTH);
  response->set_prompt_tokens(static_cast<int64_t>(job.task.prompt.size()));
  response->set_generated_tokens(job.generated);
  response->set_version(version);
  *response->mutable_queue_time() = Elapsed(times.admitted - times.submitted - times.install);
  *response->mutable_switch_time() = Elapsed(switch_time);
  *response->mutable_prefill_time() = Elapsed(times.first_token - times.admitted);
  *response->mutable_decode_time() = Elapsed(times.last_token - times.first_token);
}

}  // namespace

InferenceCore::InferenceCore(const Options& options, Engine::BackendFactory make_backend,
                             StoreClient& store, RegistryClient& registry, BaseCache& bases,
                             InferenceMetrics& metrics, const Clock& clock)
    : metrics_(metrics),
      clock_(clock),
      resolver_(store, registry),
      engine_(options.engine, std::move(make_backend), metrics, clock),
      loader_(options.loader, bases, registry, metrics) {}

absl::Status InferenceCore::Wanted(const CallControl& control) const {
  if (stopping_) return absl::UnavailableError("inference stops: repeat elsewhere");
  if (control.cancelled()) return absl::CancelledError("the caller cancelled");
  if (clock_.Monotonic() >= control.deadline) {
    return absl::DeadlineExceededError("the caller's deadline passed");
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelHandle> InferenceCore::LoadModel(const std::string& tenant,
                                                     const v1::ModelSelector& selector,
                                                     const CallControl& control,
                                                     absl::Duration* loading) {
  DW_RETURN_IF_ERROR(Wanted(control));
  DW_ASSIGN_OR_RETURN(const ResolvedModel resolved, resolver_.Resolve(tenant, selector));
  const absl::Duration begin = clock_.Monotonic();
  absl::StatusOr<ModelHandle> model = loader_.Load(resolved, [&] { return !Wanted(control).ok(); });
  *loading = clock_.Monotonic() - begin;
  // What ended the load, in the words of the call.
  if (absl::IsCancelled(model.status())) DW_RETURN_IF_ERROR(Wanted(control));
  return model;
}

absl::Status InferenceCore::Generate(const Caller& caller, const v1::GenerateRequest& request,
                                     const CallControl& control, const Sink& sink) {
  const absl::Duration begin = clock_.Monotonic();
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  DW_RETURN_IF_ERROR(CheckModelSelector("model", tenant, request.model()));
  DW_RETURN_IF_ERROR(CheckGenerate(request));
  absl::Duration loading;
  DW_ASSIGN_OR_RETURN(const ModelHandle model,
                      LoadModel(tenant, request.model(), control, &loading));
  return GenerateOn(model, request, control, begin, loading, sink);
}

absl::Status InferenceCore::GenerateOn(const ModelHandle& model, const v1::GenerateRequest& request,
                                       const CallControl& control, absl::Duration begin,
                                       absl::Duration loading, const Sink& sink) {
  DW_ASSIGN_OR_RETURN(GenerationTask task,
                      MakeTask(request, *model.base, engine_.ContextOf(model.base->config())));
  const auto job = std::make_shared<GenerationJob>(model, std::move(task), control.deadline);
  DW_RETURN_IF_ERROR(engine_.Submit(job));
  model.CountRequest();
  const CancelOnReturn cancel(*job);
  while (true) {
    GenerationJob::Progress progress = job->Wait(kPoll);
    if (control.cancelled()) job->Cancel();
    if (progress.ended && !progress.status.ok()) return progress.status;
    if (progress.token_ids.empty() && progress.text.empty() && !progress.ended) continue;
    v1::GenerateResponse response;
    response.set_text(std::move(progress.text));
    response.mutable_token_ids()->Add(progress.token_ids.begin(), progress.token_ids.end());
    if (progress.ended) {
      const absl::Duration switch_time = loading + job->times.install;
      FillLast(*job, progress.finish, switch_time, model.version(), &response);
      metrics_.switch_seconds.Observe(absl::ToDoubleSeconds(switch_time));
      metrics_.first_token_seconds.Observe(absl::ToDoubleSeconds(job->times.first_token - begin));
    }
    if (!sink(response)) return absl::CancelledError("the caller is gone");
    if (progress.ended) return absl::OkStatus();
  }
}

absl::StatusOr<v1::ScoreResponse> InferenceCore::Score(const Caller& caller,
                                                       const v1::ScoreRequest& request,
                                                       const CallControl& control) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  DW_RETURN_IF_ERROR(CheckModelSelector("model", tenant, request.model()));
  DW_RETURN_IF_ERROR(CheckScore(request));
  absl::Duration loading;
  DW_ASSIGN_OR_RETURN(const ModelHandle model,
                      LoadModel(tenant, request.model(), control, &loading));
  return ScoreOn(model, request, control);
}

absl::StatusOr<v1::ScoreResponse> InferenceCore::ScoreOn(const ModelHandle& model,
                                                         const v1::ScoreRequest& request,
                                                         const CallControl& control) {
  DW_ASSIGN_OR_RETURN(auto examples,
                      MakeExamples(request, *model.base, engine_.ContextOf(model.base->config())));
  const auto job = std::make_shared<ScoreJob>(model, std::move(examples), control.deadline);
  DW_RETURN_IF_ERROR(engine_.Submit(job));
  model.CountRequest();
  const CancelOnReturn cancel(*job);
  while (!job->Wait(kPoll)) {
    if (control.cancelled()) job->Cancel();
  }
  DW_RETURN_IF_ERROR(job->status());
  v1::ScoreResponse response;
  response.set_version(model.version());
  for (size_t i = 0; i < job->examples.size(); ++i) {
    v1::ExampleScore& score = *response.add_scores();
    score.set_negative_log_likelihood(job->negative_log_likelihoods[i]);
    score.set_label_tokens(job->examples[i].label_count());
    score.set_token_count(job->examples[i].tokens());
  }
  return response;
}

absl::StatusOr<v1::ListLoadedModelsResponse> InferenceCore::ListLoadedModels(
    const Caller& caller, const v1::ListLoadedModelsRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  v1::ListLoadedModelsResponse response;
  for (v1::LoadedModel& model : loader_.List(tenant)) {
    if (!page.cursor.empty() && CursorOf(model) <= page.cursor) continue;
    if (response.loaded_models_size() == page.size) {
      response.set_next_page_token(
          page.NextToken(CursorOf(response.loaded_models(response.loaded_models_size() - 1))));
      break;
    }
    *response.add_loaded_models() = std::move(model);
  }
  return response;
}

void InferenceCore::Drain(absl::Duration deadline) {
  stopping_ = true;
  engine_.Drain(deadline);
}

}  // namespace deltaworks::services
