#include "services/inference/inference_service.h"

#include <chrono>

#include "services/base/status_conversion.h"

namespace deltaworks::services {

CallControl InferenceService::ControlOf(grpc::ServerContext* context) const {
  CallControl control;
  control.cancelled = [context] { return context->IsCancelled(); };
  const auto deadline = context->deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    control.deadline =
        clock_.Monotonic() + absl::FromChrono(deadline - std::chrono::system_clock::now());
  }
  return control;
}

grpc::Status InferenceService::Generate(grpc::ServerContext* context,
                                        const v1::GenerateRequest* request,
                                        grpc::ServerWriter<v1::GenerateResponse>* writer) {
  const auto caller = authenticator_.CallerOf(*context);
  if (!caller.ok()) return ToGrpcStatus(caller.status());
  return ToGrpcStatus(core_.Generate(
      *caller, *request, ControlOf(context),
      [writer](const v1::GenerateResponse& response) { return writer->Write(response); }));
}

grpc::Status InferenceService::Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                                     v1::ScoreResponse* response) {
  const auto caller = authenticator_.CallerOf(*context);
  if (!caller.ok()) return ToGrpcStatus(caller.status());
  auto answer = core_.Score(*caller, *request, ControlOf(context));
  if (!answer.ok()) return ToGrpcStatus(answer.status());
  response->Swap(&*answer);
  return grpc::Status::OK;
}

grpc::Status InferenceService::ListLoadedModels(grpc::ServerContext* context,
                                                const v1::ListLoadedModelsRequest* request,
                                                v1::ListLoadedModelsResponse* response) {
  const auto caller = authenticator_.CallerOf(*context);
  if (!caller.ok()) return ToGrpcStatus(caller.status());
  auto answer = core_.ListLoadedModels(*caller, *request);
  if (!answer.ok()) return ToGrpcStatus(answer.status());
  response->Swap(&*answer);
  return grpc::Status::OK;
}

}  // namespace deltaworks::services
