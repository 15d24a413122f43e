#include "tests/simulation/disk_store_metadata.h"

#include <google/protobuf/message.h>

#include <algorithm>

#include "absl/container/btree_set.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "scheduler/message_difference.h"
#include "services/base/caller.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::simulation {
namespace {

using services::NoSuchResource;
using services::ObjectKey;
using services::ObjectRow;
using services::PinRow;
using services::RequestMessage;
using services::ResourceRow;
using services::UploadRow;
using Row = DiskTables::Row;
using Table = DiskTables::Table;

// Keys and rows of the tables. Times are microseconds since 1970.
enum {
  kObjects,            // digest, generation: size, state
  kMembers,            // manifest, member:
  kManifests,          // member, manifest:
  kHolds,              // tenant, digest: end
  kHolders,            // digest, tenant: end
  kPins,               // tenant, owner, digest: create time
  kPinners,            // digest, tenant, owner:
  kUploads,            // name: tenant, digest, size, committed, end
  kUploadNames,        // tenant, digest: name
  kOpenUploads,        // tenant, name:
  kResources,          // seq: tenant, kind, name, message, detail, pending, attempts
  kResourceSeqs,       // name: seq
  kReports,            // key: report, create time
  kRequests,           // tenant, rpc, request id: request, resource, create time
  kResourceRequests,   // resource, request's key:
  kForgottenRequests,  // create time, request's key:
  kTables,
};

constexpr char kPending[] = "1";
constexpr char kPresent[] = "2";
constexpr char kDeleting[] = "3";

constexpr size_t kMissingListed = 100;
constexpr absl::Duration kRequestsKept = absl::Hours(24 * 7);
constexpr char kMark = '\0';  // Ends a part of a key.

// Sorts as its parts do.
std::string Key(std::initializer_list<absl::string_view> parts) {
  return absl::StrJoin(parts, absl::string_view(&kMark, 1));
}
std::string Begin(std::initializer_list<absl::string_view> parts) {
  return absl::StrCat(Key(parts), absl::string_view(&kMark, 1));
}
// Sorts as the numbers do.
std::string Number(int64_t number) { return absl::StrCat(absl::Dec(number, absl::kZeroPad20)); }
std::string Micros(absl::Time time) { return Number(absl::ToUnixMicros(time)); }

int64_t ToInt(absl::string_view text) {
  int64_t number = 0;
  CHECK(absl::SimpleAtoi(text, &number)) << text;
  return number;
}
absl::Time ToTime(absl::string_view micros) { return absl::FromUnixMicros(ToInt(micros)); }

const Row* Find(const Table& table, const std::string& key) {
  const auto found = table.find(key);
  return found == table.end() ? nullptr : &found->second;
}

// Calls visit(rest of the key, row) for keys that begin with `begin`, until it returns false.
template <typename Visit>
void ForEach(const Table& table, absl::string_view begin, Visit visit) {
  for (auto it = table.lower_bound(begin); it != table.end(); ++it) {
    const absl::string_view key = it->first;
    if (!absl::StartsWith(key, begin) || !visit(key.substr(begin.size()), it->second)) return;
  }
}

std::string KeyOf(const ObjectKey& key) { return Key({key.digest, Number(key.generation)}); }

ObjectKey ToObjectKey(absl::string_view key) {
  const size_t mark = key.find(kMark);
  return {std::string(key.substr(0, mark)), ToInt(key.substr(mark + 1))};
}

UploadRow ToUpload(const std::string& name, const Row& row) {
  return {name, row[0], row[1], ToInt(row[2]), ToInt(row[3]), ToTime(row[4])};
}

ResourceRow ToResource(absl::string_view seq, const Row& row) {
  return {ToInt(seq), row[2], row[3], row[4], row[5] == "1"};
}

std::string PinResource(const std::string& owner, const std::string& digest) {
  return absl::StrCat(owner, "#", digest);
}

std::string RequestId(const RequestMessage& request) {
  const auto* const field = request.GetDescriptor()->FindFieldByName("request_id");
  CHECK(field != nullptr) << request.GetTypeName();
  return request.GetReflection()->GetString(request, field);
}

}  // namespace

// The changes of one call, made of what the tables were before it.
class DiskStoreMetadata::Transaction {
 public:
  explicit Transaction(DiskStoreMetadata& metadata) : tables_(*metadata.tables_) {}

  absl::Status Commit() { return tables_.Commit(std::move(changes_)); }

  void Put(int table, std::string key, Row row = {}) {
    changes_.push_back({table, std::move(key), std::move(row)});
  }
  void Erase(int table, std::string key) {
    changes_.push_back({table, std::move(key), std::nullopt});
  }

  void PutUpload(const UploadRow& row) {
    Put(kUploads, row.name,
        {row.tenant, row.digest, absl::StrCat(row.size), absl::StrCat(row.committed),
         Micros(row.expire_time)});
    if (row.committed < row.size) {
      Put(kOpenUploads, Key({row.tenant, row.name}));
    } else {
      Erase(kOpenUploads, Key({row.tenant, row.name}));
    }
  }

  void Hold(absl::string_view tenant, absl::string_view digest, absl::Time now) {
    const std::string end = Micros(now + services::kHoldDuration);
    Put(kHolds, Key({tenant, digest}), {end});
    Put(kHolders, Key({digest, tenant}), {end});
  }

  void Unpin(absl::string_view tenant, const std::string& owner, const std::string& digest) {
    Erase(kPins, Key({tenant, owner, digest}));
    Erase(kPinners, Key({digest, tenant, owner}));
  }

  absl::StatusOr<PinRow> Pin(const DiskStoreMetadata& metadata, absl::string_view tenant,
                             const std::string& owner, const std::string& digest, absl::Time now) {
    std::vector<std::string> needed = metadata.MembersOf(digest);
    needed.insert(needed.begin(), digest);
    std::vector<std::string> missing;
    for (const std::string& blob : needed) {
      const bool there = metadata.IsPresent(blob) && metadata.IsReferenced(tenant, blob, now);
      if (!there && missing.size() < kMissingListed) missing.push_back(blob);
    }
    if (!missing.empty()) {
      return absl::NotFoundError(absl::StrCat("missing blobs: ", absl::StrJoin(missing, ", ")));
    }
    const std::string key = Key({tenant, owner, digest});
    if (const Row* const pin = Find(tables_.table(kPins), key)) {
      return PinRow{owner, digest, ToTime((*pin)[0])};
    }
    Put(kPins, key, {Micros(now)});
    Put(kPinners, Key({digest, tenant, owner}));
    return PinRow{owner, digest, now};
  }

  absl::Status Record(absl::string_view tenant, absl::string_view rpc,
                      const RequestMessage& request, absl::string_view resource, absl::Time now) {
    const std::string id = RequestId(request);
    if (id.empty()) return absl::OkStatus();
    const std::string key = Key({tenant, rpc, id});
    if (Find(tables_.table(kRequests), key) != nullptr) {
      return absl::AlreadyExistsError(absl::StrCat("request_id ", id, " was used before"));
    }
    Put(kRequests, key, {request.SerializeAsString(), std::string(resource), Micros(now)});
    if (resource.empty() || services::TenantOf(resource).empty()) {
      Put(kForgottenRequests, Key({Micros(now), key}));
    } else {
      Put(kResourceRequests, Key({resource, key}));
    }
    return absl::OkStatus();
  }

  // The resource is deleted: its requests may be forgotten when they are old.
  void Forget(absl::string_view resource) {
    ForEach(tables_.table(kResourceRequests), Begin({resource}),
            [&](absl::string_view request, const Row&) {
              const Row* const row = Find(tables_.table(kRequests), std::string(request));
              Put(kForgottenRequests, Key({(*row)[2], request}));
              Erase(kResourceRequests, Key({resource, request}));
              return true;
            });
  }

 private:
  DiskTables& tables_;
  std::vector<DiskTables::Change> changes_;
};

absl::StatusOr<std::unique_ptr<DiskStoreMetadata>> DiskStoreMetadata::Open(
    SimulatedDisk& disk, const std::string& path) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<DiskTables> tables, DiskTables::Open(disk, path, kTables));
  return std::unique_ptr<DiskStoreMetadata>(new DiskStoreMetadata(std::move(tables)));
}

// ---- Requests ----

absl::StatusOr<std::optional<std::string>> DiskStoreMetadata::FindRequest(
    absl::string_view tenant, absl::string_view rpc, const RequestMessage& request) {
  const std::string id = RequestId(request);
  DW_RETURN_IF_ERROR(services::CheckRequestId(id));
  if (id.empty()) return std::nullopt;
  const Row* const found = Find(tables_->table(kRequests), Key({tenant, rpc, id}));
  if (found == nullptr) return std::nullopt;
  const std::unique_ptr<RequestMessage> before(request.New());
  CHECK(before->ParseFromString((*found)[0]));
  const std::string field = scheduler::FirstDifference(*before, request);
  if (!field.empty()) {
    return absl::AlreadyExistsError(
        absl::StrCat("request_id ", id, " was used for another request: ", field, " differs"));
  }
  return (*found)[1];
}

absl::Status DiskStoreMetadata::RecordRequest(absl::string_view tenant, absl::string_view rpc,
                                              const RequestMessage& request,
                                              absl::string_view resource, absl::Time now) {
  Transaction transaction(*this);
  DW_RETURN_IF_ERROR(transaction.Record(tenant, rpc, request, resource, now));
  return transaction.Commit();
}

// ---- Uploads ----

absl::StatusOr<UploadRow> DiskStoreMetadata::BeginUpload(absl::string_view tenant,
                                                         absl::string_view digest, int64_t size,
                                                         int64_t open_max, absl::Duration lifetime,
                                                         absl::Time now) {
  Transaction transaction(*this);
  const std::string key = Key({tenant, digest});
  UploadRow row;
  if (const Row* const name = Find(tables_->table(kUploadNames), key)) {
    row = ToUpload((*name)[0], *Find(tables_->table(kUploads), (*name)[0]));
    if (row.size != size) {
      return absl::InvalidArgumentError(absl::StrCat("size_bytes is ", size, ", want ", row.size,
                                                     ": an upload of ", digest,
                                                     " with that size is open"));
    }
  } else {
    int64_t open = 0;
    ForEach(tables_->table(kOpenUploads), Begin({tenant}),
            [&](absl::string_view, const Row&) { return ++open < open_max; });
    if (open >= open_max) {
      return absl::ResourceExhaustedError(absl::StrCat("the tenant has ", open,
                                                       " open uploads, want fewer than ", open_max,
                                                       " (uploads_open_max)"));
    }
    row.name = services::TenantResourceName(tenant, "uploads", services::RandomResourceId("up-"));
    row.tenant = std::string(tenant);
    row.digest = std::string(digest);
    row.size = size;
    transaction.Put(kUploadNames, key, {row.name});
  }
  row.expire_time = now + lifetime;
  transaction.PutUpload(row);
  DW_RETURN_IF_ERROR(transaction.Commit());
  return row;
}

absl::StatusOr<UploadRow> DiskStoreMetadata::FindUpload(const std::string& name) {
  const Row* const row = Find(tables_->table(kUploads), name);
  if (row == nullptr) return NoSuchResource(name);
  return ToUpload(name, *row);
}

absl::Status DiskStoreMetadata::CommitUpload(const std::string& name, int64_t committed,
                                             absl::Duration lifetime, absl::Time now) {
  DW_ASSIGN_OR_RETURN(UploadRow row, FindUpload(name));
  row.committed = committed;
  row.expire_time = now + lifetime;
  Transaction transaction(*this);
  transaction.PutUpload(row);
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::RestartUpload(const std::string& name) {
  absl::StatusOr<UploadRow> row = FindUpload(name);
  if (!row.ok()) return absl::OkStatus();
  row->committed = 0;
  Transaction transaction(*this);
  transaction.PutUpload(*row);
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::RemoveUpload(const std::string& name) {
  const absl::StatusOr<UploadRow> row = FindUpload(name);
  if (!row.ok()) return absl::OkStatus();
  Transaction transaction(*this);
  transaction.Erase(kUploads, name);
  transaction.Erase(kUploadNames, Key({row->tenant, row->digest}));
  transaction.Erase(kOpenUploads, Key({row->tenant, name}));
  transaction.Forget(name);
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::DropUpload(const std::string& name) { return RemoveUpload(name); }

absl::StatusOr<bool> DiskStoreMetadata::DropExpiredUpload(const std::string& name, absl::Time now) {
  const absl::StatusOr<UploadRow> row = FindUpload(name);
  if (!row.ok() || row->expire_time > now) return false;
  DW_RETURN_IF_ERROR(RemoveUpload(name));
  return true;
}

absl::StatusOr<std::vector<UploadRow>> DiskStoreMetadata::ExpiredUploads(absl::Time now,
                                                                         int64_t max) {
  std::vector<UploadRow> expired;
  for (const auto& [name, row] : tables_->table(kUploads)) {
    if (static_cast<int64_t>(expired.size()) == max) break;
    if (ToTime(row[4]) <= now) expired.push_back(ToUpload(name, row));
  }
  return expired;
}

absl::StatusOr<std::vector<std::string>> DiskStoreMetadata::UploadNames() {
  std::vector<std::string> names;
  for (const auto& [name, row] : tables_->table(kUploads)) names.push_back(name);
  return names;
}

// ---- Objects ----

bool DiskStoreMetadata::IsPresent(absl::string_view digest) const {
  bool present = false;
  ForEach(tables_->table(kObjects), Begin({digest}), [&](absl::string_view, const Row& row) {
    present = row[1] == kPresent;
    return !present;
  });
  return present;
}

absl::StatusOr<std::optional<ObjectKey>> DiskStoreMetadata::AllocateObject(absl::string_view digest,
                                                                           int64_t size,
                                                                           absl::Time) {
  if (IsPresent(digest)) return std::nullopt;
  ObjectKey key{std::string(digest), 1};
  ForEach(tables_->table(kObjects), Begin({digest}), [&](absl::string_view generation, const Row&) {
    key.generation = ToInt(generation) + 1;
    return true;
  });
  Transaction transaction(*this);
  transaction.Put(kObjects, KeyOf(key), {absl::StrCat(size), kPending});
  DW_RETURN_IF_ERROR(transaction.Commit());
  return key;
}

absl::Status DiskStoreMetadata::PublishObject(const ObjectKey& key,
                                              const std::vector<std::string>& members,
                                              absl::string_view tenant, absl::Time now) {
  const Row* const row = Find(tables_->table(kObjects), KeyOf(key));
  if (row == nullptr || (*row)[1] != kPending) {
    return absl::InternalError(
        absl::StrCat("object ", key.digest, ".", key.generation, " is not PENDING"));
  }
  Transaction transaction(*this);
  transaction.Put(kObjects, KeyOf(key), {(*row)[0], IsPresent(key.digest) ? kDeleting : kPresent});
  for (const std::string& member : members) {
    transaction.Put(kMembers, Key({key.digest, member}));
    transaction.Put(kManifests, Key({member, key.digest}));
  }
  transaction.Hold(tenant, key.digest, now);
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::SetState(const ObjectKey& key, bool only_pending) {
  const Row* const row = Find(tables_->table(kObjects), KeyOf(key));
  if (row == nullptr || (only_pending && (*row)[1] != kPending)) return absl::OkStatus();
  Transaction transaction(*this);
  transaction.Put(kObjects, KeyOf(key), {(*row)[0], kDeleting});
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::AbandonObject(const ObjectKey& key) {
  return SetState(key, /*only_pending=*/true);
}

absl::Status DiskStoreMetadata::MarkDeleting(const ObjectKey& key) {
  return SetState(key, /*only_pending=*/false);
}

absl::Status DiskStoreMetadata::HoldBlob(absl::string_view tenant, absl::string_view digest,
                                         absl::Time now) {
  if (!IsPresent(digest)) return NoSuchResource(digest);
  Transaction transaction(*this);
  transaction.Hold(tenant, digest, now);
  return transaction.Commit();
}

bool DiskStoreMetadata::IsPinnedBy(absl::string_view tenant, absl::string_view owner,
                                   absl::string_view digest) const {
  bool found = false;
  ForEach(tables_->table(kPins), Begin({tenant, owner}), [&](absl::string_view pinned, const Row&) {
    found = pinned == digest || tables_->table(kMembers).contains(Key({pinned, digest}));
    return !found;
  });
  return found;
}

bool DiskStoreMetadata::IsPinned(absl::string_view tenant, absl::string_view digest) const {
  bool found = false;
  const auto look = [&](absl::string_view blob) {
    ForEach(tables_->table(kPinners), Begin({blob, tenant}),
            [&](absl::string_view, const Row&) { return !(found = true); });
    return !found;
  };
  if (!look(digest)) return true;
  ForEach(tables_->table(kManifests), Begin({digest}),
          [&](absl::string_view manifest, const Row&) { return look(manifest); });
  return found;
}

bool DiskStoreMetadata::IsReferenced(absl::string_view tenant, absl::string_view digest,
                                     absl::Time now) const {
  const Row* const hold = Find(tables_->table(kHolds), Key({tenant, digest}));
  return (hold != nullptr && ToTime((*hold)[0]) > now) || IsPinned(tenant, digest);
}

absl::StatusOr<ObjectRow> DiskStoreMetadata::FindBlob(absl::string_view tenant,
                                                      absl::string_view reference,
                                                      absl::string_view digest, absl::Time now) {
  const bool referenced =
      reference.empty() ? IsReferenced(tenant, digest, now) : IsPinnedBy(tenant, reference, digest);
  if (!referenced) return NoSuchResource(digest);
  std::optional<ObjectRow> object;
  ForEach(tables_->table(kObjects), Begin({digest}),
          [&](absl::string_view generation, const Row& row) {
            if (row[1] == kPresent) {
              object = ObjectRow{{std::string(digest), ToInt(generation)}, ToInt(row[0])};
            }
            return !object.has_value();
          });
  if (!object.has_value()) return NoSuchResource(digest);
  return *object;
}

absl::StatusOr<std::vector<std::string>> DiskStoreMetadata::FindMissing(
    absl::string_view tenant, const std::vector<std::string>& digests, absl::Time now) {
  Transaction transaction(*this);
  std::vector<std::string> missing;
  for (const std::string& digest : digests) {
    if (IsPresent(digest) && IsReferenced(tenant, digest, now)) {
      transaction.Hold(tenant, digest, now);
    } else {
      missing.push_back(digest);
    }
  }
  DW_RETURN_IF_ERROR(transaction.Commit());
  return missing;
}

// ---- Pins ----

std::vector<std::string> DiskStoreMetadata::MembersOf(absl::string_view digest) const {
  std::vector<std::string> members;
  ForEach(tables_->table(kMembers), Begin({digest}), [&](absl::string_view member, const Row&) {
    members.emplace_back(member);
    return true;
  });
  return members;
}

absl::StatusOr<PinRow> DiskStoreMetadata::CreatePin(absl::string_view tenant,
                                                    const std::string& owner,
                                                    const std::string& digest,
                                                    const RequestMessage& request, absl::Time now) {
  static constexpr char kRpc[] = "CreatePin";
  Transaction transaction(*this);
  DW_ASSIGN_OR_RETURN(const std::optional<std::string> before, FindRequest(tenant, kRpc, request));
  DW_ASSIGN_OR_RETURN(PinRow pin, transaction.Pin(*this, tenant, owner, digest, now));
  if (!before.has_value()) {
    DW_RETURN_IF_ERROR(transaction.Record(tenant, kRpc, request, PinResource(owner, digest), now));
  }
  DW_RETURN_IF_ERROR(transaction.Commit());
  return pin;
}

absl::Status DiskStoreMetadata::DeletePin(absl::string_view tenant, const std::string& owner,
                                          const std::string& digest, const RequestMessage& request,
                                          absl::Time now) {
  static constexpr char kRpc[] = "DeletePin";
  Transaction transaction(*this);
  DW_ASSIGN_OR_RETURN(const std::optional<std::string> before, FindRequest(tenant, kRpc, request));
  if (before.has_value()) return absl::OkStatus();
  DW_RETURN_IF_ERROR(transaction.Record(tenant, kRpc, request, "", now));
  transaction.Unpin(tenant, owner, digest);
  transaction.Forget(PinResource(owner, digest));
  return transaction.Commit();
}

absl::StatusOr<std::vector<PinRow>> DiskStoreMetadata::ListPins(absl::string_view tenant,
                                                                absl::string_view owner_prefix,
                                                                const PinRow& after, int64_t max) {
  const Table& table = tables_->table(kPins);
  const std::string begin = Begin({tenant});
  const std::string prefix = absl::StrCat(begin, owner_prefix);
  std::vector<PinRow> pins;
  for (auto it = table.lower_bound(
           std::max(prefix, absl::StrCat(begin, Key({after.owner, after.digest}))));
       it != table.end() && absl::StartsWith(it->first, prefix); ++it) {
    if (static_cast<int64_t>(pins.size()) == max) break;
    const std::string rest = it->first.substr(begin.size());
    const size_t mark = rest.find(kMark);
    PinRow pin{rest.substr(0, mark), rest.substr(mark + 1), ToTime(it->second[0])};
    if (pin.owner == after.owner && pin.digest == after.digest) continue;
    pins.push_back(std::move(pin));
  }
  return pins;
}

// ---- Datasets and base models ----

absl::Status DiskStoreMetadata::InsertResource(absl::string_view tenant, absl::string_view kind,
                                               absl::string_view rpc, const ResourceRow& row,
                                               const std::vector<std::string>& pins,
                                               const RequestMessage& request, absl::Time now) {
  if (tables_->table(kResourceSeqs).contains(row.name)) {
    return absl::AlreadyExistsError(absl::StrCat(row.name, " exists, want an id that is free"));
  }
  Transaction transaction(*this);
  const Table& resources = tables_->table(kResources);
  const std::string seq = Number(resources.empty() ? 1 : ToInt(resources.rbegin()->first) + 1);
  transaction.Put(kResources, seq,
                  {std::string(tenant), std::string(kind), row.name, row.message, row.detail,
                   row.pending ? "1" : "0", "0"});
  transaction.Put(kResourceSeqs, row.name, {seq});
  for (const std::string& digest : pins) {
    DW_RETURN_IF_ERROR(transaction.Pin(*this, tenant, row.name, digest, now).status());
  }
  DW_RETURN_IF_ERROR(transaction.Record(tenant, rpc, request, row.name, now));
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::UpdateResource(absl::string_view tenant, const ResourceRow& row,
                                               const std::vector<std::string>& pins,
                                               absl::string_view rpc, const RequestMessage* request,
                                               absl::Time now) {
  const Row* const seq = Find(tables_->table(kResourceSeqs), row.name);
  if (seq == nullptr) return NoSuchResource(row.name);
  Transaction transaction(*this);
  Row resource = *Find(tables_->table(kResources), (*seq)[0]);
  resource[3] = row.message;
  resource[4] = row.detail;
  resource[5] = row.pending ? "1" : "0";
  resource[6] = "0";
  transaction.Put(kResources, (*seq)[0], std::move(resource));
  for (const std::string& digest : pins) {
    DW_RETURN_IF_ERROR(transaction.Pin(*this, tenant, row.name, digest, now).status());
  }
  ForEach(tables_->table(kPins), Begin({tenant, row.name}),
          [&](absl::string_view digest, const Row&) {
            if (std::find(pins.begin(), pins.end(), digest) == pins.end()) {
              transaction.Unpin(tenant, row.name, std::string(digest));
            }
            return true;
          });
  if (request != nullptr) {
    DW_RETURN_IF_ERROR(transaction.Record(tenant, rpc, *request, row.name, now));
  }
  return transaction.Commit();
}

absl::StatusOr<ResourceRow> DiskStoreMetadata::GetResource(const std::string& name) {
  const Row* const seq = Find(tables_->table(kResourceSeqs), name);
  if (seq == nullptr) return NoSuchResource(name);
  return ToResource((*seq)[0], *Find(tables_->table(kResources), (*seq)[0]));
}

absl::StatusOr<std::vector<ResourceRow>> DiskStoreMetadata::ListResources(absl::string_view tenant,
                                                                          absl::string_view kind,
                                                                          int64_t before_seq,
                                                                          int64_t max) {
  const Table& table = tables_->table(kResources);
  std::vector<ResourceRow> resources;
  for (auto it = before_seq == 0 ? table.end() : table.lower_bound(Number(before_seq));
       it != table.begin() && static_cast<int64_t>(resources.size()) < max;) {
    --it;
    if (it->second[0] != tenant || it->second[1] != kind) continue;
    resources.push_back(ToResource(it->first, it->second));
  }
  return resources;
}

absl::StatusOr<std::vector<ResourceRow>> DiskStoreMetadata::PendingResources(int64_t max) {
  std::vector<ResourceRow> pending;
  for (const auto& [seq, row] : tables_->table(kResources)) {
    if (static_cast<int64_t>(pending.size()) == max) break;
    if (row[5] == "1") pending.push_back(ToResource(seq, row));
  }
  return pending;
}

absl::StatusOr<int64_t> DiskStoreMetadata::CountPending() {
  DW_ASSIGN_OR_RETURN(const std::vector<ResourceRow> pending, PendingResources(INT64_MAX));
  return static_cast<int64_t>(pending.size());
}

absl::StatusOr<int64_t> DiskStoreMetadata::CountAttempt(const std::string& name, int64_t change) {
  const Row* const seq = Find(tables_->table(kResourceSeqs), name);
  if (seq == nullptr) return NoSuchResource(name);
  Row row = *Find(tables_->table(kResources), (*seq)[0]);
  const int64_t attempts = ToInt(row[6]) + change;
  row[6] = absl::StrCat(attempts);
  Transaction transaction(*this);
  transaction.Put(kResources, (*seq)[0], std::move(row));
  DW_RETURN_IF_ERROR(transaction.Commit());
  return attempts;
}

// ---- Reports ----

absl::StatusOr<std::optional<std::string>> DiskStoreMetadata::FindReport(absl::string_view key) {
  const Row* const row = Find(tables_->table(kReports), std::string(key));
  if (row == nullptr) return std::nullopt;
  return (*row)[0];
}

absl::Status DiskStoreMetadata::PutReport(absl::string_view key, absl::string_view report,
                                          int64_t kept_max, absl::Time now) {
  Transaction transaction(*this);
  absl::btree_set<std::pair<std::string, std::string>> by_time = {{Micros(now), std::string(key)}};
  for (const auto& [other, row] : tables_->table(kReports)) {
    if (other != key) by_time.emplace(row[1], other);
  }
  transaction.Put(kReports, std::string(key), {std::string(report), Micros(now)});
  for (auto it = by_time.begin(); static_cast<int64_t>(by_time.size()) > kept_max;
       it = by_time.erase(it)) {
    transaction.Erase(kReports, it->second);
  }
  return transaction.Commit();
}

// ---- Collection ----

bool DiskStoreMetadata::IsNeeded(const std::string& digest, absl::Time now) const {
  bool needed = false;
  ForEach(tables_->table(kHolders), Begin({digest}),
          [&](absl::string_view, const Row& row) { return !(needed = ToTime(row[0]) > now); });
  const auto pinned = [&](absl::string_view blob) {
    ForEach(tables_->table(kPinners), Begin({blob}),
            [&](absl::string_view, const Row&) { return !(needed = true); });
    return !needed;
  };
  if (needed || !pinned(digest)) return true;
  ForEach(tables_->table(kManifests), Begin({digest}),
          [&](absl::string_view manifest, const Row&) { return pinned(manifest); });
  return needed;
}

absl::StatusOr<int64_t> DiskStoreMetadata::MarkUnreferenced(absl::Time now, int64_t max) {
  Transaction transaction(*this);
  for (const auto& [key, row] : tables_->table(kHolds)) {
    if (ToTime(row[0]) > now) continue;
    const size_t mark = key.find(kMark);
    transaction.Erase(kHolds, key);
    transaction.Erase(kHolders, Key({key.substr(mark + 1), key.substr(0, mark)}));
  }
  int64_t marked = 0;
  for (const auto& [key, row] : tables_->table(kObjects)) {
    if (marked == max) break;
    if (row[1] != kPresent || IsNeeded(key.substr(0, key.find(kMark)), now)) continue;
    transaction.Put(kObjects, key, {row[0], kDeleting});
    ++marked;
  }
  const std::string old = Micros(now - kRequestsKept);
  int64_t forgotten = 0;
  ForEach(tables_->table(kForgottenRequests), "", [&](absl::string_view key, const Row&) {
    const size_t mark = key.find(kMark);
    if (key.substr(0, mark) >= old || forgotten++ == max) return false;
    transaction.Erase(kForgottenRequests, std::string(key));
    transaction.Erase(kRequests, std::string(key.substr(mark + 1)));
    return true;
  });
  DW_RETURN_IF_ERROR(transaction.Commit());
  return marked;
}

absl::StatusOr<std::vector<ObjectKey>> DiskStoreMetadata::DeletingObjects(int64_t max) {
  std::vector<ObjectKey> keys;
  for (const auto& [key, row] : tables_->table(kObjects)) {
    if (static_cast<int64_t>(keys.size()) == max) break;
    if (row[1] == kDeleting) keys.push_back(ToObjectKey(key));
  }
  return keys;
}

absl::Status DiskStoreMetadata::ForgetObjects(const std::vector<ObjectKey>& keys) {
  Transaction transaction(*this);
  absl::btree_set<std::string> gone;
  for (const ObjectKey& key : keys) {
    const Row* const row = Find(tables_->table(kObjects), KeyOf(key));
    if (row == nullptr || (*row)[1] != kDeleting) continue;
    gone.insert(KeyOf(key));
    transaction.Erase(kObjects, KeyOf(key));
    // A pinned manifest that was damaged keeps its members: they hold what a repaired copy names.
    bool kept = false;
    ForEach(tables_->table(kPinners), Begin({key.digest}),
            [&](absl::string_view, const Row&) { return !(kept = true); });
    ForEach(tables_->table(kObjects), Begin({key.digest}),
            [&](absl::string_view generation, const Row&) {
              kept = kept || !gone.contains(Key({key.digest, generation}));
              return !kept;
            });
    if (kept) continue;
    for (const std::string& member : MembersOf(key.digest)) {
      transaction.Erase(kMembers, Key({key.digest, member}));
      transaction.Erase(kManifests, Key({member, key.digest}));
    }
  }
  return transaction.Commit();
}

absl::Status DiskStoreMetadata::AbandonPending() {
  Transaction transaction(*this);
  for (const auto& [key, row] : tables_->table(kObjects)) {
    if (row[1] == kPending) transaction.Put(kObjects, key, {row[0], kDeleting});
  }
  return transaction.Commit();
}

absl::StatusOr<bool> DiskStoreMetadata::KnowsObject(const ObjectKey& key) {
  return tables_->table(kObjects).contains(KeyOf(key));
}

absl::StatusOr<services::StoreMetadata::Totals> DiskStoreMetadata::CountTotals() {
  Totals totals;
  for (const auto& [key, row] : tables_->table(kObjects)) {
    if (row[1] != kPresent) continue;
    ++totals.objects;
    totals.bytes += ToInt(row[0]);
  }
  totals.uploads = static_cast<int64_t>(tables_->table(kOpenUploads).size());
  totals.pins = static_cast<int64_t>(tables_->table(kPins).size());
  return totals;
}

}  // namespace deltaworks::simulation
