#include "tests/simulation/disk_blob_store.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::simulation {
namespace {

using Fate = SimulatedDisk::Fate;
using services::BlobReader;
using services::ObjectKey;

// A copy: it stays readable while its object is removed.
class StringReader final : public BlobReader {
 public:
  explicit StringReader(absl::string_view bytes) : bytes_(bytes) {}
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  absl::StatusOr<int64_t> Read(int64_t offset, absl::Span<char> out) const override {
    const int64_t count = std::clamp<int64_t>(size() - offset, 0, static_cast<int64_t>(out.size()));
    if (count > 0) std::memcpy(out.data(), bytes_.data() + offset, static_cast<size_t>(count));
    return count;
  }
  absl::StatusOr<absl::string_view> Map() override { return bytes_; }

 private:
  const std::string bytes_;
};

template <typename Change>
absl::Status Write(SimulatedDisk& disk, const std::string& path, Change change) {
  const Fate fate = disk.OnWrite();
  if (fate == Fate::kWritten || fate == Fate::kWrittenFails) change();
  if (fate == Fate::kWritten) return absl::OkStatus();
  if (fate == Fate::kFull)
    return absl::ResourceExhaustedError(absl::StrCat(path, ": disk is full"));
  return absl::InternalError(absl::StrCat(path, ": write failed"));
}

}  // namespace

DiskBlobStore::DiskBlobStore(SimulatedDisk& disk)
    : disk_(disk),
      staged_(absl::StrCat(disk.name(), "staged/")),
      objects_(absl::StrCat(disk.name(), "objects/")) {}

std::string DiskBlobStore::ObjectPath(const ObjectKey& key) const {
  return absl::StrCat(objects_, key.digest, ".", key.generation);
}

absl::StatusOr<std::unique_ptr<BlobReader>> DiskBlobStore::OpenPath(const std::string& path) {
  const auto found = disk_.files().find(path);
  if (found == disk_.files().end()) return absl::NotFoundError(absl::StrCat(path, ": not there"));
  return std::make_unique<StringReader>(found->second.bytes());
}

absl::Status DiskBlobStore::AppendStaged(const std::string& id, int64_t offset,
                                         absl::string_view data) {
  const std::string path = StagedPath(id);
  const auto found = disk_.files().find(path);
  const int64_t size =
      found == disk_.files().end() ? 0 : static_cast<int64_t>(found->second.bytes().size());
  if (offset > size) {
    return absl::DataLossError(absl::StrCat(path, ": offset is ", offset, ", want at most ", size));
  }
  return Write(disk_, path, [&] {
    DiskFile& file = disk_.files()[path];
    if (offset < size) file.Truncate(offset);
    file.Write(offset, data);
  });
}

absl::Status DiskBlobStore::SyncStaged(const std::string& id) {
  const std::string path = StagedPath(id);
  if (!disk_.files().contains(path)) return absl::NotFoundError(absl::StrCat(path, ": not there"));
  return Write(disk_, path, [&] { disk_.files()[path].Sync(); });
}

absl::StatusOr<std::unique_ptr<BlobReader>> DiskBlobStore::OpenStaged(const std::string& id) {
  return OpenPath(StagedPath(id));
}

absl::Status DiskBlobStore::StageFile(const std::string& id, const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  std::filesystem::remove(path);
  DW_RETURN_IF_ERROR(AppendStaged(id, 0, bytes));
  return SyncStaged(id);
}

absl::Status DiskBlobStore::DropStaged(const std::string& id) {
  const std::string path = StagedPath(id);
  if (!disk_.files().contains(path)) return absl::OkStatus();
  return Write(disk_, path, [&] { disk_.files().erase(path); });
}

absl::StatusOr<std::vector<std::string>> DiskBlobStore::ListStaged() {
  std::vector<std::string> ids;
  for (auto it = disk_.files().lower_bound(staged_);
       it != disk_.files().end() && absl::StartsWith(it->first, staged_); ++it) {
    ids.push_back(it->first.substr(staged_.size()));
  }
  return ids;
}

absl::Status DiskBlobStore::Promote(const std::string& id, const ObjectKey& key) {
  const auto found = disk_.files().find(StagedPath(id));
  if (found == disk_.files().end()) {
    return absl::NotFoundError(absl::StrCat(StagedPath(id), ": not there"));
  }
  return Write(disk_, ObjectPath(key), [&] {
    found->second.Sync();
    disk_.files()[ObjectPath(key)] = std::move(found->second);
    disk_.files().erase(found);
  });
}

absl::StatusOr<std::unique_ptr<BlobReader>> DiskBlobStore::Open(const ObjectKey& key) {
  return OpenPath(ObjectPath(key));
}

absl::Status DiskBlobStore::Remove(const ObjectKey& key) {
  const std::string path = ObjectPath(key);
  if (!disk_.files().contains(path)) return absl::OkStatus();
  return Write(disk_, path, [&] { disk_.files().erase(path); });
}

absl::StatusOr<std::vector<ObjectKey>> DiskBlobStore::List() {
  std::vector<ObjectKey> keys;
  for (auto it = disk_.files().lower_bound(objects_);
       it != disk_.files().end() && absl::StartsWith(it->first, objects_); ++it) {
    const std::string name = it->first.substr(objects_.size());
    const size_t dot = name.rfind('.');
    ObjectKey key{name.substr(0, dot)};
    if (absl::SimpleAtoi(name.substr(dot + 1), &key.generation)) keys.push_back(std::move(key));
  }
  return keys;
}

absl::Status DiskBlobStore::Link(const ObjectKey& key, const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, Open(key));
  DW_ASSIGN_OR_RETURN(const absl::string_view bytes, reader->Map());
  return WriteFileAtomically(path, bytes);
}

}  // namespace deltaworks::simulation
