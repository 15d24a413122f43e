// The gRPC face of the scheduler towards workers: validate, convert, delegate. Every decision is
// made by the core behind it, on its loop. Only the platform's token may speak for a worker. For
// the contract, see proto/deltaworks/v1/worker_service.proto.
//
// Stateless and thread-safe; gRPC calls it from many threads at once, and no thread waits in it.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_WORKER_SERVICE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_WORKER_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "services/base/authenticator.h"
#include "services/base/event_loop.h"
#include "services/scheduler/scheduler_core.h"

namespace deltaworks::services {

// All must outlive the service and its calls.
std::unique_ptr<grpc::Service> MakeWorkerService(EventLoop& loop, SchedulerCore& core,
                                                 const Authenticator& authenticator);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_WORKER_SERVICE_H_
