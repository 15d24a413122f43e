#include "services/clients/grpc_registry_client.h"

#include "proto/deltaworks/v1/registry_service.grpc.pb.h"
#include "services/clients/grpc_calls.h"

namespace deltaworks::services {
namespace {

using Stub = v1::RegistryService::StubInterface;

constexpr char kService[] = "registry";
// CreateVersion reads every byte of the adapter.
constexpr absl::Duration kSlowCallTimeout = absl::Minutes(10);
constexpr absl::Duration kStreamTimeout = absl::Hours(24);

class GrpcRegistryClient final : public RegistryClient {
 public:
  explicit GrpcRegistryClient(const Channel& channel)
      : channel_(channel),
        slow_channel_(channel),
        stub_(v1::RegistryService::NewStub(channel.grpc)) {
    slow_channel_.call_timeout = kSlowCallTimeout;
  }

  absl::StatusOr<v1::AdapterVersion> CreateVersion(
      const v1::CreateVersionRequest& request) override {
    return CallUnary(slow_channel_, kService, *stub_, &Stub::CreateVersion, WithRequestId(request));
  }
  absl::StatusOr<v1::AdapterVersion> GetVersion(const std::string& name) override {
    return CallByName<v1::GetVersionRequest>(&Stub::GetVersion, name);
  }
  absl::StatusOr<v1::Adapter> GetAdapter(const std::string& name) override {
    return CallByName<v1::GetAdapterRequest>(&Stub::GetAdapter, name);
  }
  absl::StatusOr<v1::ListAdaptersResponse> ListAdapters(
      const v1::ListAdaptersRequest& request) override {
    return Call(&Stub::ListAdapters, request);
  }
  absl::StatusOr<v1::ListVersionsResponse> ListVersions(
      const v1::ListVersionsRequest& request) override {
    return Call(&Stub::ListVersions, request);
  }
  absl::StatusOr<v1::Alias> SetAlias(const v1::SetAliasRequest& request) override {
    return Call(&Stub::SetAlias, WithRequestId(request));
  }
  absl::StatusOr<v1::Alias> GetAlias(const std::string& name) override {
    return CallByName<v1::GetAliasRequest>(&Stub::GetAlias, name);
  }
  absl::StatusOr<v1::ListAliasesResponse> ListAliases(
      const v1::ListAliasesRequest& request) override {
    return Call(&Stub::ListAliases, request);
  }
  absl::Status DeleteAlias(const v1::DeleteAliasRequest& request) override {
    return Call(&Stub::DeleteAlias, WithRequestId(request)).status();
  }
  absl::StatusOr<v1::ListAliasHistoryResponse> ListAliasHistory(
      const v1::ListAliasHistoryRequest& request) override {
    return Call(&Stub::ListAliasHistory, request);
  }
  absl::Status DownloadVersion(const v1::DownloadVersionRequest& request,
                               const Sink& sink) override {
    return ReadStream<v1::DownloadVersionResponse>(
        channel_, kStreamTimeout,
        [&](grpc::ClientContext& context) { return stub_->DownloadVersion(&context, request); },
        sink);
  }

 private:
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request) {
    return CallUnary(channel_, kService, *stub_, method, request);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> CallByName(Method<Request, Response> method, const std::string& name) {
    Request request;
    request.set_name(name);
    return Call(method, request);
  }

  const Channel channel_;
  Channel slow_channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<RegistryClient> MakeGrpcRegistryClient(const Channel& channel) {
  return std::make_unique<GrpcRegistryClient>(channel);
}

}  // namespace deltaworks::services
