// FakeOperatorClient: quotas in a map, usage as a test says, and the modes of the workers that a
// FakeTrainingClient lists. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_OPERATOR_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_OPERATOR_CLIENT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/base/caller.h"
#include "services/clients/operator_client.h"

namespace deltaworks::services {

class FakeOperatorClient final : public OperatorClient {
 public:
  // SetWorkerMode finds its worker here and sets the mode. Must outlive the client.
  explicit FakeOperatorClient(std::vector<v1::Worker>& workers) : workers_(workers) {}

  // ---- For the test ----

  // By name. SetQuota compares the etag, and gives a new one.
  std::map<std::string, v1::Quota> quotas;
  // Newest day first. ListUsage selects from it and takes no notice of pages.
  std::vector<v1::UsageDay> usage;
  // Workers that no list has, by name: how many attempts leave them.
  std::map<std::string, int32_t> unlisted;
  // The last requests.
  v1::SetQuotaRequest quota_request;
  v1::ListUsageRequest usage_request;
  // Who calls: another than an operator changes nothing and sees its own.
  Caller caller{kAllTenants};
  // If not OK, what SetQuota and SetWorkerMode return.
  absl::Status change_failure;

  // ---- OperatorClient ----

  absl::StatusOr<v1::Quota> SetQuota(const v1::SetQuotaRequest& request) override;
  absl::StatusOr<v1::ListQuotasResponse> ListQuotas(const v1::ListQuotasRequest& request) override;
  absl::StatusOr<v1::ListUsageResponse> ListUsage(const v1::ListUsageRequest& request) override;
  // `leaving` is the worker's number of jobs.
  absl::StatusOr<v1::SetWorkerModeResponse> SetWorkerMode(
      const v1::SetWorkerModeRequest& request) override;

 private:
  absl::Status CheckChange() const;

  std::vector<v1::Worker>& workers_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_OPERATOR_CLIENT_H_
