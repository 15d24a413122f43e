// PostCall, AnswerWith: how the services of this process answer a unary rpc: checked on gRPC's
// thread, carried out on the loop, answered from a committed view. For their sources only.
//
// Request and response of a call live until Finish.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_UNARY_SERVICE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_UNARY_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/base/event_loop.h"
#include "services/base/status_conversion.h"
#include "services/scheduler/scheduler_core.h"

namespace deltaworks::services {

template <typename Response>
void FinishWith(absl::StatusOr<Response> answer, grpc::ServerUnaryReactor* reactor,
                Response* response) {
  if (answer.ok()) response->Swap(&*answer);
  reactor->Finish(ToGrpcStatus(answer.status()));
}

// Runs task(reactor) on the loop, which must finish the call; or finishes it with `checked`, if
// that is an error.
template <typename Task>
grpc::ServerUnaryReactor* PostCall(EventLoop& loop, grpc::CallbackServerContext* context,
                                   const absl::Status& checked, Task task) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (checked.ok()) {
    loop.Post([reactor, task = std::move(task)]() mutable { task(reactor); });
  } else {
    reactor->Finish(ToGrpcStatus(checked));
  }
  return reactor;
}

// For the core: finishes the call with read(view), an absl::StatusOr<Response>.
template <typename Response, typename ReadFunction>
SchedulerCore::Reader AnswerWith(grpc::ServerUnaryReactor* reactor, Response* response,
                                 ReadFunction read) {
  return [reactor, response, read = std::move(read)](absl::StatusOr<CommittedView> view) mutable {
    FinishWith(view.ok() ? read(*view) : absl::StatusOr<Response>(view.status()), reactor,
               response);
  };
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_UNARY_SERVICE_H_
