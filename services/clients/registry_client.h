// RegistryClient: the registry, as its callers see it.
//
// Calls block, are retried while the registry is UNAVAILABLE (retry.h) and return the errors of
// proto/deltaworks/v1/registry_service.proto. A mutating request without request_id gets one.
//
//   GrpcRegistryClient   over a Channel                    grpc_registry_client.h
//   FakeRegistryClient   in memory, for tests of callers   fake_registry_client.h
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_REGISTRY_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_REGISTRY_CLIENT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/registry_service.pb.h"

namespace deltaworks::services {

class RegistryClient {
 public:
  virtual ~RegistryClient() = default;

  virtual absl::StatusOr<v1::AdapterVersion> CreateVersion(
      const v1::CreateVersionRequest& request) = 0;
  // A version, an alias, or an adapter (its newest READY version).
  virtual absl::StatusOr<v1::AdapterVersion> GetVersion(const std::string& name) = 0;
  virtual absl::StatusOr<v1::Adapter> GetAdapter(const std::string& name) = 0;
  virtual absl::StatusOr<v1::ListAdaptersResponse> ListAdapters(
      const v1::ListAdaptersRequest& request) = 0;
  virtual absl::StatusOr<v1::ListVersionsResponse> ListVersions(
      const v1::ListVersionsRequest& request) = 0;
  virtual absl::StatusOr<v1::Alias> SetAlias(const v1::SetAliasRequest& request) = 0;
  virtual absl::StatusOr<v1::Alias> GetAlias(const std::string& name) = 0;
  virtual absl::StatusOr<v1::ListAliasesResponse> ListAliases(
      const v1::ListAliasesRequest& request) = 0;
  virtual absl::Status DeleteAlias(const v1::DeleteAliasRequest& request) = 0;
  virtual absl::StatusOr<v1::ListAliasHistoryResponse> ListAliasHistory(
      const v1::ListAliasHistoryRequest& request) = 0;
  // One stream, in order. Not retried; go on with path and offset. An error of `sink` ends it.
  using Sink = std::function<absl::Status(const v1::DownloadVersionResponse& piece)>;
  virtual absl::Status DownloadVersion(const v1::DownloadVersionRequest& request,
                                       const Sink& sink) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_REGISTRY_CLIENT_H_
