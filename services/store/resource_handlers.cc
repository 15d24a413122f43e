// The handlers of StoreService for datasets, base models and training specs.

#include "services/base/log.h"
#include "services/store/base_models.h"
#include "services/store/dataset_texts.h"
#include "services/store/datasets.h"
#include "services/store/handlers.h"
#include "services/store/training_check.h"
#include "services/store/whole_reads.h"

namespace deltaworks::services {
namespace {

// The names inside a Check or Preview request, all of the parent's tenant.
template <typename Request>
absl::StatusOr<std::string> CheckSource(const StoreParts& parts, const grpc::ServerContext& context,
                                        const Request& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(parts, context, request.parent()));
  if (request.source_case() == Request::SOURCE_NOT_SET) {
    return absl::InvalidArgumentError("source is absent, want dataset or blob_digest");
  }
  if (request.source_case() == Request::kDataset) {
    DW_RETURN_IF_ERROR(CheckNameOfTenant("dataset", request.dataset(), kDatasetPattern, tenant));
  }
  if (!request.base_model().empty()) {
    DW_RETURN_IF_ERROR(
        CheckNameOfTenant("base_model", request.base_model(), kBaseModelPattern, tenant));
  }
  return tenant;
}

}  // namespace

// ---- Datasets ----

grpc::Status StoreService::CreateDataset(grpc::ServerContext* context,
                                         const v1::CreateDatasetRequest* request,
                                         v1::Dataset* response) {
  const auto create = [&]() -> absl::StatusOr<v1::Dataset> {
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        TenantOfParent(parts_, *context, request->parent()));
    DW_ASSIGN_OR_RETURN(const WholeReads::Turn turn, parts_.whole_reads.Begin());
    DW_ASSIGN_OR_RETURN(v1::Dataset dataset, parts_.datasets.Create(tenant, *request));
    LogInfo("dataset created", {{"name", dataset.name()},
                                {"request_id", request->request_id()},
                                {"examples", int64_t{dataset.example_count()}}});
    return dataset;
  };
  return Answer(parts_, create(), response);
}

grpc::Status StoreService::GetDataset(grpc::ServerContext* context,
                                      const v1::GetDatasetRequest* request, v1::Dataset* response) {
  const absl::Status status = CheckName(parts_, *context, request->name(), kDatasetPattern);
  if (!status.ok()) return Answer(parts_, status);
  return Answer(parts_, parts_.datasets.Get(request->name()), response);
}

grpc::Status StoreService::ListDatasets(grpc::ServerContext* context,
                                        const v1::ListDatasetsRequest* request,
                                        v1::ListDatasetsResponse* response) {
  const auto tenant = TenantOfParent(parts_, *context, request->parent());
  if (!tenant.ok()) return Answer(parts_, tenant.status());
  return Answer(parts_, parts_.datasets.List(*tenant, *request), response);
}

grpc::Status StoreService::CheckDataset(grpc::ServerContext* context,
                                        const v1::CheckDatasetRequest* request,
                                        v1::DatasetReport* response) {
  const auto check = [&]() -> absl::StatusOr<v1::DatasetReport> {
    DW_ASSIGN_OR_RETURN(const std::string tenant, CheckSource(parts_, *context, *request));
    WholeReads::Turn turn;
    // With a base it is a report, which waits and is bounded among its like.
    if (request->base_model().empty()) {
      DW_ASSIGN_OR_RETURN(turn, parts_.whole_reads.Begin());
    }
    return parts_.texts.Check(tenant, *request);
  };
  return Answer(parts_, check(), response);
}

grpc::Status StoreService::PreviewDataset(grpc::ServerContext* context,
                                          const v1::PreviewDatasetRequest* request,
                                          v1::PreviewDatasetResponse* response) {
  const auto preview = [&]() -> absl::StatusOr<v1::PreviewDatasetResponse> {
    DW_ASSIGN_OR_RETURN(const std::string tenant, CheckSource(parts_, *context, *request));
    DW_ASSIGN_OR_RETURN(const WholeReads::Turn turn, parts_.whole_reads.Begin());
    return parts_.texts.Preview(tenant, *request);
  };
  return Answer(parts_, preview(), response);
}

// ---- Base models ----

grpc::Status StoreService::ImportBaseModel(grpc::ServerContext* context,
                                           const v1::ImportBaseModelRequest* request,
                                           v1::BaseModel* response) {
  const auto tenant = TenantOfParent(parts_, *context, request->parent());
  if (!tenant.ok()) return Answer(parts_, tenant.status());
  return Answer(parts_, parts_.base_models.Import(*tenant, *request), response);
}

grpc::Status StoreService::GetBaseModel(grpc::ServerContext* context,
                                        const v1::GetBaseModelRequest* request,
                                        v1::BaseModel* response) {
  const absl::Status status = CheckName(parts_, *context, request->name(), kBaseModelPattern);
  if (!status.ok()) return Answer(parts_, status);
  return Answer(parts_, parts_.base_models.Get(request->name()), response);
}

grpc::Status StoreService::ListBaseModels(grpc::ServerContext* context,
                                          const v1::ListBaseModelsRequest* request,
                                          v1::ListBaseModelsResponse* response) {
  const auto tenant = TenantOfParent(parts_, *context, request->parent());
  if (!tenant.ok()) return Answer(parts_, tenant.status());
  return Answer(parts_, parts_.base_models.List(*tenant, *request), response);
}

// ---- For the scheduler ----

grpc::Status StoreService::ValidateTraining(grpc::ServerContext* context,
                                            const v1::ValidateTrainingRequest* request,
                                            v1::ValidateTrainingResponse* response) {
  const auto tenant = TenantOfParent(parts_, *context, request->parent());
  if (!tenant.ok()) return Answer(parts_, tenant.status());
  return Answer(parts_, parts_.training_check.Validate(*tenant, *request), response);
}

}  // namespace deltaworks::services
