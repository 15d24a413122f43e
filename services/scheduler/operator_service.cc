#include "services/scheduler/operator_service.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/operator_service.grpc.pb.h"
#include "scheduler/resource_name.h"
#include "services/base/resource_names.h"
#include "services/scheduler/operator_lists.h"
#include "services/scheduler/unary_service.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

class OperatorService final : public v1::OperatorService::CallbackService {
 public:
  OperatorService(EventLoop& loop, SchedulerCore& core, const Authenticator& authenticator)
      : loop_(loop), core_(core), authenticator_(authenticator) {}

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* SetQuota(Context* context, const v1::SetQuotaRequest* request,
                  v1::Quota* response) override;
  Unary* ListQuotas(Context* context, const v1::ListQuotasRequest* request,
                    v1::ListQuotasResponse* response) override;
  Unary* ListUsage(Context* context, const v1::ListUsageRequest* request,
                   v1::ListUsageResponse* response) override;
  Unary* SetWorkerMode(Context* context, const v1::SetWorkerModeRequest* request,
                       v1::SetWorkerModeResponse* response) override;

 private:
  absl::Status CheckOperator(const Context& context) const;
  absl::Status CheckSetQuota(const Context& context, const v1::SetQuotaRequest& request) const;
  absl::Status CheckSetWorkerMode(const Context& context,
                                  const v1::SetWorkerModeRequest& request) const;

  // Has the core carry out `request`, if `checked` is OK, and answers with read(view).
  template <typename Request, typename Response, typename ReadFunction>
  Unary* Change(Context* context, const absl::Status& checked, const Request* request,
                Response* response, ReadFunction read);
  // Answers with list(view, caller, request).
  template <typename Request, typename Response>
  Unary* List(Context* context, const Request* request, Response* response,
              absl::StatusOr<Response> (*list)(const CommittedView&, const Caller&,
                                               const Request&));

  EventLoop& loop_;
  SchedulerCore& core_;
  const Authenticator& authenticator_;
};

absl::Status OperatorService::CheckOperator(const Context& context) const {
  DW_ASSIGN_OR_RETURN(const Caller caller, authenticator_.CallerOf(context));
  if (caller.all_tenants()) return absl::OkStatus();
  return absl::PermissionDeniedError("the token given is a tenant's, want one of the platform");
}

absl::Status OperatorService::CheckSetQuota(const Context& context,
                                            const v1::SetQuotaRequest& request) const {
  DW_RETURN_IF_ERROR(CheckOperator(context));
  return scheduler::ParseQuotaName("quota.name", request.quota().name()).status();
}

absl::Status OperatorService::CheckSetWorkerMode(const Context& context,
                                                 const v1::SetWorkerModeRequest& request) const {
  DW_RETURN_IF_ERROR(CheckOperator(context));
  return ParseName("worker", request.worker(), kWorkerPattern).status();
}

template <typename Request, typename Response, typename ReadFunction>
grpc::ServerUnaryReactor* OperatorService::Change(Context* context, const absl::Status& checked,
                                                  const Request* request, Response* response,
                                                  ReadFunction read) {
  return PostCall(loop_, context, checked,
                  [core = &core_, request, response, read = std::move(read)](Unary* reactor) {
                    core->ChangeThenRead(*request, AnswerWith(reactor, response, read));
                  });
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* OperatorService::List(
    Context* context, const Request* request, Response* response,
    absl::StatusOr<Response> (*list)(const CommittedView&, const Caller&, const Request&)) {
  const absl::StatusOr<Caller> caller = authenticator_.CallerOf(*context);
  return PostCall(
      loop_, context, caller.status(),
      [core = &core_, request, response, list, caller = caller.value_or(Caller())](Unary* reactor) {
        core->Read(AnswerWith(reactor, response, [=](const CommittedView& view) {
          return list(view, caller, *request);
        }));
      });
}

grpc::ServerUnaryReactor* OperatorService::SetQuota(Context* context,
                                                    const v1::SetQuotaRequest* request,
                                                    v1::Quota* response) {
  return Change(
      context, CheckSetQuota(*context, *request), request, response,
      [request](const CommittedView& view) { return ShowQuota(view, request->quota().name()); });
}

grpc::ServerUnaryReactor* OperatorService::ListQuotas(Context* context,
                                                      const v1::ListQuotasRequest* request,
                                                      v1::ListQuotasResponse* response) {
  return List(context, request, response, services::ListQuotas);
}

grpc::ServerUnaryReactor* OperatorService::ListUsage(Context* context,
                                                     const v1::ListUsageRequest* request,
                                                     v1::ListUsageResponse* response) {
  return List(context, request, response, services::ListUsage);
}

grpc::ServerUnaryReactor* OperatorService::SetWorkerMode(Context* context,
                                                         const v1::SetWorkerModeRequest* request,
                                                         v1::SetWorkerModeResponse* response) {
  return Change(
      context, CheckSetWorkerMode(*context, *request), request, response,
      [request](const CommittedView& view) { return ShowWorkerMode(view, request->worker()); });
}

}  // namespace

std::unique_ptr<grpc::Service> MakeOperatorService(EventLoop& loop, SchedulerCore& core,
                                                   const Authenticator& authenticator) {
  return std::make_unique<OperatorService>(loop, core, authenticator);
}

}  // namespace deltaworks::services
