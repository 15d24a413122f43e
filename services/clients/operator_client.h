// OperatorClient: the scheduler, as the tools of a platform's operator see it.
//
// Calls block, are retried while the scheduler is UNAVAILABLE (retry.h) and return the errors of
// proto/deltaworks/v1/operator_service.proto. All are idempotent. Apart from TrainingClient because
// it shows another token: one of all tenants, where something is changed.
//
//   GrpcOperatorClient   over a Channel             grpc_operator_client.h
//   FakeOperatorClient   in memory                  fake_operator_client.h
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_OPERATOR_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_OPERATOR_CLIENT_H_

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/operator_service.pb.h"

namespace deltaworks::services {

class OperatorClient {
 public:
  virtual ~OperatorClient() = default;

  virtual absl::StatusOr<v1::Quota> SetQuota(const v1::SetQuotaRequest& request) = 0;
  virtual absl::StatusOr<v1::ListQuotasResponse> ListQuotas(
      const v1::ListQuotasRequest& request) = 0;
  virtual absl::StatusOr<v1::ListUsageResponse> ListUsage(const v1::ListUsageRequest& request) = 0;
  virtual absl::StatusOr<v1::SetWorkerModeResponse> SetWorkerMode(
      const v1::SetWorkerModeRequest& request) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_OPERATOR_CLIENT_H_
