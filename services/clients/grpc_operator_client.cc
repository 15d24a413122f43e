#include "services/clients/grpc_operator_client.h"

#include "proto/deltaworks/v1/operator_service.grpc.pb.h"
#include "services/clients/grpc_calls.h"

namespace deltaworks::services {
namespace {

using Stub = v1::OperatorService::StubInterface;

constexpr char kService[] = "scheduler";

class GrpcOperatorClient final : public OperatorClient {
 public:
  explicit GrpcOperatorClient(const Channel& channel)
      : channel_(channel), stub_(v1::OperatorService::NewStub(channel.grpc)) {}

  absl::StatusOr<v1::Quota> SetQuota(const v1::SetQuotaRequest& request) override {
    return Call(&Stub::SetQuota, request);
  }
  absl::StatusOr<v1::ListQuotasResponse> ListQuotas(const v1::ListQuotasRequest& request) override {
    return Call(&Stub::ListQuotas, request);
  }
  absl::StatusOr<v1::ListUsageResponse> ListUsage(const v1::ListUsageRequest& request) override {
    return Call(&Stub::ListUsage, request);
  }
  absl::StatusOr<v1::SetWorkerModeResponse> SetWorkerMode(
      const v1::SetWorkerModeRequest& request) override {
    return Call(&Stub::SetWorkerMode, request);
  }

 private:
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    return CallUnary(channel_, kService, *stub_, method, request);
  }

  const Channel channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<OperatorClient> MakeGrpcOperatorClient(const Channel& channel) {
  return std::make_unique<GrpcOperatorClient>(channel);
}

}  // namespace deltaworks::services
