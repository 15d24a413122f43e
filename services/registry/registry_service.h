// The gRPC face of the registry: who calls, then delegate. Every decision is RegistryCore's. For
// the contract, see proto/deltaworks/v1/registry_service.proto.

#ifndef DELTAWORKS_SERVICES_REGISTRY_REGISTRY_SERVICE_H_
#define DELTAWORKS_SERVICES_REGISTRY_REGISTRY_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "proto/deltaworks/v1/registry_service.grpc.pb.h"
#include "services/base/authenticator.h"
#include "services/registry/registry_core.h"

namespace deltaworks::services {

// Stateless and thread-safe; gRPC calls it from many threads at once.
class RegistryService final : public v1::RegistryService::Service {
 public:
  // Both must outlive this object.
  RegistryService(RegistryCore& core, const Authenticator& authenticator)
      : core_(core), authenticator_(authenticator) {}

  grpc::Status CreateVersion(grpc::ServerContext* context, const v1::CreateVersionRequest* request,
                             v1::AdapterVersion* response) override;
  grpc::Status GetVersion(grpc::ServerContext* context, const v1::GetVersionRequest* request,
                          v1::AdapterVersion* response) override;
  grpc::Status GetAdapter(grpc::ServerContext* context, const v1::GetAdapterRequest* request,
                          v1::Adapter* response) override;
  grpc::Status ListAdapters(grpc::ServerContext* context, const v1::ListAdaptersRequest* request,
                            v1::ListAdaptersResponse* response) override;
  grpc::Status ListVersions(grpc::ServerContext* context, const v1::ListVersionsRequest* request,
                            v1::ListVersionsResponse* response) override;
  grpc::Status SetAlias(grpc::ServerContext* context, const v1::SetAliasRequest* request,
                        v1::Alias* response) override;
  grpc::Status GetAlias(grpc::ServerContext* context, const v1::GetAliasRequest* request,
                        v1::Alias* response) override;
  grpc::Status ListAliases(grpc::ServerContext* context, const v1::ListAliasesRequest* request,
                           v1::ListAliasesResponse* response) override;
  grpc::Status DeleteAlias(grpc::ServerContext* context, const v1::DeleteAliasRequest* request,
                           google::protobuf::Empty* response) override;
  grpc::Status ListAliasHistory(grpc::ServerContext* context,
                                const v1::ListAliasHistoryRequest* request,
                                v1::ListAliasHistoryResponse* response) override;
  grpc::Status DownloadVersion(grpc::ServerContext* context,
                               const v1::DownloadVersionRequest* request,
                               grpc::ServerWriter<v1::DownloadVersionResponse>* writer) override;

 private:
  template <typename Request, typename Response>
  grpc::Status Delegate(grpc::ServerContext* context,
                        absl::StatusOr<Response> (RegistryCore::*method)(const Caller&,
                                                                         const Request&),
                        const Request* request, Response* response);

  RegistryCore& core_;
  const Authenticator& authenticator_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_REGISTRY_SERVICE_H_
