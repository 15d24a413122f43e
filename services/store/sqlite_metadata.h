// StoreMetadata in one SQLite file, held exclusively by this process (services/base/sqlite.h).

#ifndef DELTAWORKS_SERVICES_STORE_SQLITE_METADATA_H_
#define DELTAWORKS_SERVICES_STORE_SQLITE_METADATA_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "services/base/sqlite.h"
#include "services/store/metadata.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class SqliteStoreMetadata final : public StoreMetadata {
 public:
  // Errors as Database::Open.
  static absl::StatusOr<std::unique_ptr<SqliteStoreMetadata>> Open(
      const std::string& path, const Database::Options& options = {});

  absl::StatusOr<std::optional<std::string>> FindRequest(absl::string_view tenant,
                                                         absl::string_view rpc,
                                                         const RequestMessage& request) override;
  absl::Status RecordRequest(absl::string_view tenant, absl::string_view rpc,
                             const RequestMessage& request, absl::string_view resource,
                             absl::Time now) override;

  absl::StatusOr<UploadRow> BeginUpload(absl::string_view tenant, absl::string_view digest,
                                        int64_t size, int64_t open_max, absl::Duration lifetime,
                                        absl::Time now) override;
  absl::StatusOr<UploadRow> FindUpload(const std::string& name) override;
  absl::Status CommitUpload(const std::string& name, int64_t committed, absl::Duration lifetime,
                            absl::Time now) override;
  absl::Status RestartUpload(const std::string& name) override;
  absl::Status DropUpload(const std::string& name) override;
  absl::StatusOr<bool> DropExpiredUpload(const std::string& name, absl::Time now) override;
  absl::StatusOr<std::vector<UploadRow>> ExpiredUploads(absl::Time now, int64_t max) override;
  absl::StatusOr<std::vector<std::string>> UploadNames() override;

  absl::StatusOr<std::optional<ObjectKey>> AllocateObject(absl::string_view digest, int64_t size,
                                                          absl::Time now) override;
  absl::Status PublishObject(const ObjectKey& key, const std::vector<std::string>& members,
                             absl::string_view tenant, absl::Time now) override;
  absl::Status AbandonObject(const ObjectKey& key) override;
  absl::Status HoldBlob(absl::string_view tenant, absl::string_view digest,
                        absl::Time now) override;
  absl::StatusOr<ObjectRow> FindBlob(absl::string_view tenant, absl::string_view reference,
                                     absl::string_view digest, absl::Time now) override;
  absl::StatusOr<std::vector<std::string>> FindMissing(absl::string_view tenant,
                                                       const std::vector<std::string>& digests,
                                                       absl::Time now) override;
  absl::Status MarkDeleting(const ObjectKey& key) override;

  absl::StatusOr<PinRow> CreatePin(absl::string_view tenant, const std::string& owner,
                                   const std::string& digest, const RequestMessage& request,
                                   absl::Time now) override;
  absl::Status DeletePin(absl::string_view tenant, const std::string& owner,
                         const std::string& digest, const RequestMessage& request,
                         absl::Time now) override;
  absl::StatusOr<std::vector<PinRow>> ListPins(absl::string_view tenant,
                                               absl::string_view owner_prefix, const PinRow& after,
                                               int64_t max) override;

  absl::Status InsertResource(absl::string_view tenant, absl::string_view kind,
                              absl::string_view rpc, const ResourceRow& row,
                              const std::vector<std::string>& pins, const RequestMessage& request,
                              absl::Time now) override;
  absl::Status UpdateResource(absl::string_view tenant, const ResourceRow& row,
                              const std::vector<std::string>& pins, absl::string_view rpc,
                              const RequestMessage* request, absl::Time now) override;
  absl::StatusOr<ResourceRow> GetResource(const std::string& name) override;
  absl::StatusOr<std::vector<ResourceRow>> ListResources(absl::string_view tenant,
                                                         absl::string_view kind, int64_t before_seq,
                                                         int64_t max) override;
  absl::StatusOr<std::vector<ResourceRow>> PendingResources(int64_t max) override;
  absl::StatusOr<int64_t> CountPending() override;
  absl::StatusOr<int64_t> CountAttempt(const std::string& name, int64_t change) override;

  absl::StatusOr<std::optional<std::string>> FindReport(absl::string_view key) override;
  absl::Status PutReport(absl::string_view key, absl::string_view report, int64_t kept_max,
                         absl::Time now) override;

  absl::StatusOr<int64_t> MarkUnreferenced(absl::Time now, int64_t max) override;
  absl::StatusOr<std::vector<ObjectKey>> DeletingObjects(int64_t max) override;
  absl::Status ForgetObjects(const std::vector<ObjectKey>& keys) override;
  absl::Status AbandonPending() override;
  absl::StatusOr<bool> KnowsObject(const ObjectKey& key) override;
  absl::StatusOr<Totals> CountTotals() override;

 private:
  explicit SqliteStoreMetadata(std::unique_ptr<Database> database)
      : database_(std::move(database)) {}

  // Inside a transaction of the caller's.
  absl::StatusOr<bool> IsPresent(absl::string_view digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<bool> IsReferenced(absl::string_view tenant, absl::string_view digest,
                                    absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Hold(absl::string_view tenant, absl::string_view digest, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<PinRow> Pin(absl::string_view tenant, const std::string& owner,
                             const std::string& digest, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<std::string>> PinsOf(absl::string_view tenant,
                                                  const std::string& owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<std::string>> MembersOf(absl::string_view digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  const std::unique_ptr<Database> database_ ABSL_PT_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_SQLITE_METADATA_H_
