// LocalBlobStore: blobs in a folder of a local disk.
//
//   FOLDER/staged/ID                      bytes under way
//   FOLDER/objects/ab/abcdef....GENERATION  64 hex digits, mode 0444, by their first two digits
//
// An object is renamed into its place after its bytes were synced, and the folder is synced after
// that, so a name that is seen after a crash has all of its bytes.

#ifndef DELTAWORKS_SERVICES_STORE_LOCAL_BLOB_STORE_H_
#define DELTAWORKS_SERVICES_STORE_LOCAL_BLOB_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "services/store/blob_store.h"

namespace deltaworks::services {

class LocalBlobStore final : public BlobStore {
 public:
  // Makes what of the folder is missing.
  static absl::StatusOr<std::unique_ptr<LocalBlobStore>> Open(const std::string& folder);

  absl::Status AppendStaged(const std::string& id, int64_t offset, absl::string_view data) override;
  absl::Status SyncStaged(const std::string& id) override;
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenStaged(const std::string& id) override;
  absl::Status StageFile(const std::string& id, const std::string& path) override;
  absl::Status DropStaged(const std::string& id) override;
  absl::StatusOr<std::vector<std::string>> ListStaged() override;
  absl::Status Promote(const std::string& id, const ObjectKey& key) override;
  absl::StatusOr<std::unique_ptr<BlobReader>> Open(const ObjectKey& key) override;
  absl::Status Remove(const ObjectKey& key) override;
  absl::StatusOr<std::vector<ObjectKey>> List() override;
  absl::Status Link(const ObjectKey& key, const std::string& path) override;
  absl::StatusOr<int64_t> AvailableBytes() override;

  // Where the object lies; for tests that damage it and for people who look.
  std::string PathOf(const ObjectKey& key) const;

 private:
  explicit LocalBlobStore(std::string folder) : folder_(std::move(folder)) {}
  std::string StagedPath(const std::string& id) const;

  const std::string folder_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_LOCAL_BLOB_STORE_H_
