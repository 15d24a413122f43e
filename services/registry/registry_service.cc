#include "services/registry/registry_service.h"

#include "services/base/status_conversion.h"

namespace deltaworks::services {

template <typename Request, typename Response>
grpc::Status RegistryService::Delegate(
    grpc::ServerContext* context,
    absl::StatusOr<Response> (RegistryCore::*method)(const Caller&, const Request&),
    const Request* request, Response* response) {
  const auto caller = authenticator_.CallerOf(*context);
  if (!caller.ok()) return ToGrpcStatus(caller.status());
  absl::StatusOr<Response> answer = (core_.*method)(*caller, *request);
  if (!answer.ok()) return ToGrpcStatus(answer.status());
  response->Swap(&*answer);
  return grpc::Status::OK;
}

grpc::Status RegistryService::CreateVersion(grpc::ServerContext* context,
                                            const v1::CreateVersionRequest* request,
                                            v1::AdapterVersion* response) {
  return Delegate(context, &RegistryCore::CreateVersion, request, response);
}

grpc::Status RegistryService::GetVersion(grpc::ServerContext* context,
                                         const v1::GetVersionRequest* request,
                                         v1::AdapterVersion* response) {
  return Delegate(context, &RegistryCore::GetVersion, request, response);
}

grpc::Status RegistryService::GetAdapter(grpc::ServerContext* context,
                                         const v1::GetAdapterRequest* request,
                                         v1::Adapter* response) {
  return Delegate(context, &RegistryCore::GetAdapter, request, response);
}

grpc::Status RegistryService::ListAdapters(grpc::ServerContext* context,
                                           const v1::ListAdaptersRequest* request,
                                           v1::ListAdaptersResponse* response) {
  return Delegate(context, &RegistryCore::ListAdapters, request, response);
}

grpc::Status RegistryService::ListVersions(grpc::ServerContext* context,
                                           const v1::ListVersionsRequest* request,
                                           v1::ListVersionsResponse* response) {
  return Delegate(context, &RegistryCore::ListVersions, request, response);
}

grpc::Status RegistryService::SetAlias(grpc::ServerContext* context,
                                       const v1::SetAliasRequest* request, v1::Alias* response) {
  return Delegate(context, &RegistryCore::SetAlias, request, response);
}

grpc::Status RegistryService::GetAlias(grpc::ServerContext* context,
                                       const v1::GetAliasRequest* request, v1::Alias* response) {
  return Delegate(context, &RegistryCore::GetAlias, request, response);
}

grpc::Status RegistryService::ListAliases(grpc::ServerContext* context,
                                          const v1::ListAliasesRequest* request,
                                          v1::ListAliasesResponse* response) {
  return Delegate(context, &RegistryCore::ListAliases, request, response);
}

grpc::Status RegistryService::ListAliasHistory(grpc::ServerContext* context,
                                               const v1::ListAliasHistoryRequest* request,
                                               v1::ListAliasHistoryResponse* response) {
  return Delegate(context, &RegistryCore::ListAliasHistory, request, response);
}

grpc::Status RegistryService::DeleteAlias(grpc::ServerContext* context,
                                          const v1::DeleteAliasRequest* request,
                                          google::protobuf::Empty*) {
  const auto caller = authenticator_.CallerOf(*context);
  if (!caller.ok()) return ToGrpcStatus(caller.status());
  return ToGrpcStatus(core_.DeleteAlias(*caller, *request));
}

grpc::Status RegistryService::DownloadVersion(
    grpc::ServerContext* context, const v1::DownloadVersionRequest* request,
    grpc::ServerWriter<v1::DownloadVersionResponse>* writer) {
  const auto caller = authenticator_.CallerOf(*context);
  if (!caller.ok()) return ToGrpcStatus(caller.status());
  return ToGrpcStatus(core_.DownloadVersion(
      *caller, *request,
      [writer](const v1::DownloadVersionResponse& message) { return writer->Write(message); }));
}

}  // namespace deltaworks::services
