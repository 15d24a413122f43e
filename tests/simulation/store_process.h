// StoreProcess: the store, without gRPC: metadata, blobs, uploads and the collector of
// //services/store on a simulated disk. Base models are put there by the world; whether a training
// can work (ValidateTraining) is told from the names alone, because no text is read here.

#ifndef DELTAWORKS_TESTS_SIMULATION_STORE_PROCESS_H_
#define DELTAWORKS_TESTS_SIMULATION_STORE_PROCESS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/store/blob_calls.h"
#include "services/store/collector.h"
#include "services/store/metrics.h"
#include "tests/simulation/disk_blob_store.h"
#include "tests/simulation/network.h"
#include "tests/simulation/simulated_disk.h"

namespace deltaworks::simulation {

class StoreProcess final : public ServerProcess {
 public:
  // Repairs what a crash left. An error: it ends at once.
  static absl::StatusOr<std::unique_ptr<StoreProcess>> Start(Timeline& timeline, Machine& machine,
                                                             SimulatedDisk& disk,
                                                             services::StoreMetrics& metrics);

  void Serve(absl::AnyInvocable<void()> call) override { loop().Post(std::move(call)); }

  services::BlobCalls& calls() { return calls_; }
  services::Blobs& blobs() { return blobs_; }
  services::StoreMetadata& metadata() { return *metadata_; }
  // A round besides those that come by themselves.
  void Collect();

  absl::StatusOr<v1::BaseModel> GetBaseModel(const std::string& name);
  absl::StatusOr<v1::ValidateTrainingResponse> ValidateTraining(
      const v1::ValidateTrainingRequest& request);

 private:
  StoreProcess(Timeline& timeline, Machine& machine, SimulatedDisk& disk,
               services::StoreMetrics& metrics, std::unique_ptr<services::StoreMetadata> metadata);

  const std::unique_ptr<services::StoreMetadata> metadata_;
  DiskBlobStore blob_store_;
  services::Blobs blobs_;
  services::WholeReads whole_reads_;
  services::Uploads uploads_;
  services::BlobCalls calls_;
  services::Collector collector_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_STORE_PROCESS_H_
