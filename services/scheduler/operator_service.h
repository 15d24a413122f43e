// The gRPC face of the scheduler towards operators: who calls, what they may change, delegate. Only
// a token of all tenants changes anything; a tenant sees what is its own. For the contract, see
// proto/deltaworks/v1/operator_service.proto.
//
// Stateless and thread-safe; gRPC calls it from many threads at once, and no thread waits in it.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_OPERATOR_SERVICE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_OPERATOR_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "services/base/authenticator.h"
#include "services/base/event_loop.h"
#include "services/scheduler/scheduler_core.h"

namespace deltaworks::services {

// All must outlive the service and its calls.
std::unique_ptr<grpc::Service> MakeOperatorService(EventLoop& loop, SchedulerCore& core,
                                                   const Authenticator& authenticator);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_OPERATOR_SERVICE_H_
