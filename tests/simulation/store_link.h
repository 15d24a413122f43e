// StoreLink: a StoreClient over the simulated network, for the fibers of one process. Like the real
// client it gives each request an id and repeats it while the store is UNAVAILABLE.

#ifndef DELTAWORKS_TESTS_SIMULATION_STORE_LINK_H_
#define DELTAWORKS_TESTS_SIMULATION_STORE_LINK_H_

#include <functional>
#include <string>
#include <utility>

#include "services/base/caller.h"
#include "services/clients/store_client.h"
#include "tests/simulation/network.h"
#include "tests/simulation/store_process.h"

namespace deltaworks::simulation {

class StoreLink final : public services::StoreClient {
 public:
  // All must outlive it.
  StoreLink(Process& caller, Network& network, int address, Slot<StoreProcess>& store)
      : caller_(caller), network_(network), address_(address), store_(store) {}

  // Called before each call, and after it with `after`, on its fiber.
  std::function<void(bool after, bool drops_pin)> around;
  // Of streams that end in the middle.
  double cut_rate = 0;

  absl::StatusOr<v1::Upload> CreateUpload(const v1::CreateUploadRequest& request) override;
  absl::StatusOr<v1::Upload> GetUpload(const std::string& name) override;
  absl::StatusOr<v1::Upload> WriteUpload(const std::string& name, int64_t offset,
                                         const Source& source) override;
  absl::StatusOr<v1::FindMissingBlobsResponse> FindMissingBlobs(
      const v1::FindMissingBlobsRequest& request) override;
  absl::Status ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) override;
  absl::StatusOr<v1::Manifest> GetManifest(const v1::GetManifestRequest& request) override;
  absl::StatusOr<v1::ReportCorruptBlobResponse> ReportCorruptBlob(
      const v1::ReportCorruptBlobRequest& request) override;
  absl::StatusOr<v1::Pin> CreatePin(const v1::CreatePinRequest& request) override;
  absl::Status DeletePin(const v1::DeletePinRequest& request) override;
  absl::StatusOr<v1::ListPinsResponse> ListPins(const v1::ListPinsRequest& request) override;

  absl::StatusOr<v1::BaseModel> GetBaseModel(const std::string& name) override;
  absl::StatusOr<v1::ValidateTrainingResponse> ValidateTraining(
      const v1::ValidateTrainingRequest& request) override;

  // Nobody here asks for these.
  absl::StatusOr<v1::Dataset> CreateDataset(const v1::CreateDatasetRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::Dataset> GetDataset(const std::string&) override { return Absent(); }
  absl::StatusOr<v1::ListDatasetsResponse> ListDatasets(const v1::ListDatasetsRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::DatasetReport> CheckDataset(const v1::CheckDatasetRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::PreviewDatasetResponse> PreviewDataset(
      const v1::PreviewDatasetRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::BaseModel> ImportBaseModel(const v1::ImportBaseModelRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::ListBaseModelsResponse> ListBaseModels(
      const v1::ListBaseModelsRequest&) override {
    return Absent();
  }

 private:
  static absl::Status Absent() { return absl::UnimplementedError("not simulated"); }

  template <typename Response>
  absl::StatusOr<Response> Ask(std::function<absl::StatusOr<Response>(StoreProcess&)> serve,
                               bool repeat = true, bool drops_pin = false);

  Process& caller_;
  Network& network_;
  const int address_;
  Slot<StoreProcess>& store_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_STORE_LINK_H_
