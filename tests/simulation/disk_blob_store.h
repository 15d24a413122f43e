// DiskBlobStore: a BlobStore on a SimulatedDisk. Passes blob_store_contract_test.h.
//
// Promote moves a file and syncs the folder, so it is one write; what was staged and not synced may
// be lost with the power.

#ifndef DELTAWORKS_TESTS_SIMULATION_DISK_BLOB_STORE_H_
#define DELTAWORKS_TESTS_SIMULATION_DISK_BLOB_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "services/store/blob_store.h"
#include "tests/simulation/simulated_disk.h"

namespace deltaworks::simulation {

class DiskBlobStore final : public services::BlobStore {
 public:
  // `disk` must outlive it and is all its state.
  explicit DiskBlobStore(SimulatedDisk& disk);

  absl::Status AppendStaged(const std::string& id, int64_t offset, absl::string_view data) override;
  absl::Status SyncStaged(const std::string& id) override;
  absl::StatusOr<std::unique_ptr<services::BlobReader>> OpenStaged(const std::string& id) override;
  absl::Status StageFile(const std::string& id, const std::string& path) override;
  absl::Status DropStaged(const std::string& id) override;
  absl::StatusOr<std::vector<std::string>> ListStaged() override;

  absl::Status Promote(const std::string& id, const services::ObjectKey& key) override;
  absl::StatusOr<std::unique_ptr<services::BlobReader>> Open(
      const services::ObjectKey& key) override;
  absl::Status Remove(const services::ObjectKey& key) override;
  absl::StatusOr<std::vector<services::ObjectKey>> List() override;
  absl::Status Link(const services::ObjectKey& key, const std::string& path) override;
  absl::StatusOr<int64_t> AvailableBytes() override { return int64_t{1} << 40; }

 private:
  std::string StagedPath(const std::string& id) const { return staged_ + id; }
  std::string ObjectPath(const services::ObjectKey& key) const;
  absl::StatusOr<std::unique_ptr<services::BlobReader>> OpenPath(const std::string& path);

  SimulatedDisk& disk_;
  const std::string staged_;  // What the paths begin with.
  const std::string objects_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_DISK_BLOB_STORE_H_
