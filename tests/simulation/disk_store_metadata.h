// DiskStoreMetadata: a StoreMetadata in DiskTables, for most seeds: SQLite took a quarter of a
// seed's time. Passes metadata_contract_test.h. Not thread-safe.

#ifndef DELTAWORKS_TESTS_SIMULATION_DISK_STORE_METADATA_H_
#define DELTAWORKS_TESTS_SIMULATION_DISK_STORE_METADATA_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "services/store/metadata.h"
#include "tests/simulation/disk_tables.h"

namespace deltaworks::simulation {

class DiskStoreMetadata final : public services::StoreMetadata {
 public:
  // Errors as DiskTables::Open.
  static absl::StatusOr<std::unique_ptr<DiskStoreMetadata>> Open(SimulatedDisk& disk,
                                                                 const std::string& path);

  absl::StatusOr<std::optional<std::string>> FindRequest(
      absl::string_view tenant, absl::string_view rpc,
      const services::RequestMessage& request) override;
  absl::Status RecordRequest(absl::string_view tenant, absl::string_view rpc,
                             const services::RequestMessage& request, absl::string_view resource,
                             absl::Time now) override;

  absl::StatusOr<services::UploadRow> BeginUpload(absl::string_view tenant,
                                                  absl::string_view digest, int64_t size,
                                                  int64_t open_max, absl::Duration lifetime,
                                                  absl::Time now) override;
  absl::StatusOr<services::UploadRow> FindUpload(const std::string& name) override;
  absl::Status CommitUpload(const std::string& name, int64_t committed, absl::Duration lifetime,
                            absl::Time now) override;
  absl::Status RestartUpload(const std::string& name) override;
  absl::Status DropUpload(const std::string& name) override;
  absl::StatusOr<bool> DropExpiredUpload(const std::string& name, absl::Time now) override;
  absl::StatusOr<std::vector<services::UploadRow>> ExpiredUploads(absl::Time now,
                                                                  int64_t max) override;
  absl::StatusOr<std::vector<std::string>> UploadNames() override;

  absl::StatusOr<std::optional<services::ObjectKey>> AllocateObject(absl::string_view digest,
                                                                    int64_t size,
                                                                    absl::Time now) override;
  absl::Status PublishObject(const services::ObjectKey& key,
                             const std::vector<std::string>& members, absl::string_view tenant,
                             absl::Time now) override;
  absl::Status AbandonObject(const services::ObjectKey& key) override;
  absl::Status HoldBlob(absl::string_view tenant, absl::string_view digest,
                        absl::Time now) override;
  absl::StatusOr<services::ObjectRow> FindBlob(absl::string_view tenant,
                                               absl::string_view reference,
                                               absl::string_view digest, absl::Time now) override;
  absl::StatusOr<std::vector<std::string>> FindMissing(absl::string_view tenant,
                                                       const std::vector<std::string>& digests,
                                                       absl::Time now) override;
  absl::Status MarkDeleting(const services::ObjectKey& key) override;

  absl::StatusOr<services::PinRow> CreatePin(absl::string_view tenant, const std::string& owner,
                                             const std::string& digest,
                                             const services::RequestMessage& request,
                                             absl::Time now) override;
  absl::Status DeletePin(absl::string_view tenant, const std::string& owner,
                         const std::string& digest, const services::RequestMessage& request,
                         absl::Time now) override;
  absl::StatusOr<std::vector<services::PinRow>> ListPins(absl::string_view tenant,
                                                         absl::string_view owner_prefix,
                                                         const services::PinRow& after,
                                                         int64_t max) override;

  absl::Status InsertResource(absl::string_view tenant, absl::string_view kind,
                              absl::string_view rpc, const services::ResourceRow& row,
                              const std::vector<std::string>& pins,
                              const services::RequestMessage& request, absl::Time now) override;
  absl::Status UpdateResource(absl::string_view tenant, const services::ResourceRow& row,
                              const std::vector<std::string>& pins, absl::string_view rpc,
                              const services::RequestMessage* request, absl::Time now) override;
  absl::StatusOr<services::ResourceRow> GetResource(const std::string& name) override;
  absl::StatusOr<std::vector<services::ResourceRow>> ListResources(absl::string_view tenant,
                                                                   absl::string_view kind,
                                                                   int64_t before_seq,
                                                                   int64_t max) override;
  absl::StatusOr<std::vector<services::ResourceRow>> PendingResources(int64_t max) override;
  absl::StatusOr<int64_t> CountPending() override;
  absl::StatusOr<int64_t> CountAttempt(const std::string& name, int64_t change) override;

  absl::StatusOr<std::optional<std::string>> FindReport(absl::string_view key) override;
  absl::Status PutReport(absl::string_view key, absl::string_view report, int64_t kept_max,
                         absl::Time now) override;

  absl::StatusOr<int64_t> MarkUnreferenced(absl::Time now, int64_t max) override;
  absl::StatusOr<std::vector<services::ObjectKey>> DeletingObjects(int64_t max) override;
  absl::Status ForgetObjects(const std::vector<services::ObjectKey>& keys) override;
  absl::Status AbandonPending() override;
  absl::StatusOr<bool> KnowsObject(const services::ObjectKey& key) override;
  absl::StatusOr<Totals> CountTotals() override;

 private:
  class Transaction;

  explicit DiskStoreMetadata(std::unique_ptr<DiskTables> tables) : tables_(std::move(tables)) {}

  bool IsPresent(absl::string_view digest) const;
  bool IsReferenced(absl::string_view tenant, absl::string_view digest, absl::Time now) const;
  // Itself, or a manifest that names it.
  bool IsPinnedBy(absl::string_view tenant, absl::string_view owner,
                  absl::string_view digest) const;
  bool IsPinned(absl::string_view tenant, absl::string_view digest) const;
  // Whether it is pinned or held, by whomever.
  bool IsNeeded(const std::string& digest, absl::Time now) const;
  std::vector<std::string> MembersOf(absl::string_view digest) const;
  absl::Status RemoveUpload(const std::string& name);
  absl::Status SetState(const services::ObjectKey& key, bool only_pending);

  const std::unique_ptr<DiskTables> tables_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_DISK_STORE_METADATA_H_
