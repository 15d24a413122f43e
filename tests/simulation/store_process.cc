#include "tests/simulation/store_process.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/store/sqlite_metadata.h"
#include "tests/simulation/job_content.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::simulation {
namespace {

// A round costs what the store holds, and most of a night has nothing to collect.
constexpr absl::Duration kCollectionInterval = absl::Hours(3);

}  // namespace

StoreProcess::StoreProcess(Timeline& timeline, Machine& machine, SimulatedDisk& disk,
                           services::StoreMetrics& metrics,
                           std::unique_ptr<services::StoreMetadata> metadata)
    : ServerProcess(timeline, machine),
      metadata_(std::move(metadata)),
      blob_store_(disk),
      blobs_(blob_store_, *metadata_, machine, metrics),
      whole_reads_(32),
      uploads_(blobs_, *metadata_, machine, metrics, {}),
      calls_(*metadata_, blobs_, uploads_, whole_reads_, machine, metrics),
      collector_(loop(), blob_store_, *metadata_, uploads_, machine, metrics,
                 {.interval = kCollectionInterval}) {}

absl::StatusOr<std::unique_ptr<StoreProcess>> StoreProcess::Start(Timeline& timeline,
                                                                  Machine& machine,
                                                                  SimulatedDisk& disk,
                                                                  services::StoreMetrics& metrics) {
  DW_ASSIGN_OR_RETURN(auto metadata,
                      services::SqliteStoreMetadata::Open(absl::StrCat(disk.name(), "store.db")));
  std::unique_ptr<StoreProcess> store(
      new StoreProcess(timeline, machine, disk, metrics, std::move(metadata)));
  DW_RETURN_IF_ERROR(store->collector_.Reconcile());
  store->collector_.Start();
  return store;
}

void StoreProcess::Collect() {
  loop().Post([this] { static_cast<void>(collector_.RunOnce()); });
}

absl::StatusOr<v1::BaseModel> StoreProcess::GetBaseModel(const std::string& name) {
  DW_ASSIGN_OR_RETURN(const services::ResourceRow row, metadata_->GetResource(name));
  v1::BaseModel base;
  base.ParseFromString(row.message);
  return base;
}

absl::StatusOr<v1::ValidateTrainingResponse> StoreProcess::ValidateTraining(
    const v1::ValidateTrainingRequest& request) {
  v1::ValidateTrainingResponse response;
  DW_ASSIGN_OR_RETURN(const v1::BaseModel base, GetBaseModel(request.spec().base_model()));
  if (absl::EndsWith(request.spec().dataset(), kBadDataset)) {
    response.mutable_failure()->set_code("DATASET_INVALID");
    response.mutable_failure()->set_fault(v1::Failure::USER);
    response.mutable_failure()->set_message("simulated: line 1 is no record");
    return response;
  }
  *response.mutable_spec() = request.spec();
  *response.mutable_facts() = FactsOf(request.spec(), base);
  return response;
}

}  // namespace deltaworks::simulation
