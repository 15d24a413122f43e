// CallUnary, ReadStream: one rpc with token and deadline, a unary one with retries. For the sources
// of the gRPC clients only.

#ifndef DELTAWORKS_SERVICES_CLIENTS_GRPC_CALLS_H_
#define DELTAWORKS_SERVICES_CLIENTS_GRPC_CALLS_H_

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/base/random_id.h"
#include "services/base/status_conversion.h"
#include "services/clients/channel.h"

namespace deltaworks::services {

// `method` is a member of the stub's interface: &v1::StoreService::StubInterface::GetUpload.
// `service` ("store") begins the message of an UNAVAILABLE, the one error that is not the server's.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> CallUnary(const Channel& channel, absl::string_view service, Stub& stub,
                                   grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                const Request&, Response*),
                                   const Request& request) {
  Response response;
  const absl::Status status = CallWithRetry(channel.retry, [&] {
    grpc::ClientContext context;
    channel.Prepare(context, channel.call_timeout);
    response.Clear();
    const grpc::Status answer = (stub.*method)(&context, request, &response);
    const bool unreachable = answer.error_code() == grpc::StatusCode::UNAVAILABLE;
    return FromGrpcStatus(answer, unreachable ? service : "");
  });
  if (!status.ok()) return status;
  return response;
}

// Opens a stream with `open(context)` and hands each response to `sink`. An error of the sink
// cancels the call, and is returned. Not retried: the sink may have taken something.
template <typename Response, typename Open, typename Sink>
absl::Status ReadStream(const Channel& channel, absl::Duration timeout, const Open& open,
                        const Sink& sink) {
  grpc::ClientContext context;
  channel.Prepare(context, timeout);
  const auto reader = open(context);
  Response response;
  while (reader->Read(&response)) {
    absl::Status taken = sink(response);
    if (taken.ok()) continue;
    context.TryCancel();
    static_cast<void>(reader->Finish());
    return taken;
  }
  return FromGrpcStatus(reader->Finish());
}

// For a mutating rpc: gives the request an id if it has none, so that a retry is recognised.
template <typename Request>
Request WithRequestId(Request request) {
  if (request.request_id().empty()) request.set_request_id(RandomHexId());
  return request;
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_GRPC_CALLS_H_
