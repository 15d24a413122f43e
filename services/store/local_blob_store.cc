#include "services/store/local_blob_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "services/base/resource_names.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// A file descriptor that closes itself.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::Status SyncFile(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoStatus(errno, path, "open");
  return fsync(fd.get()) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path, "fsync");
}

// Makes one folder, durably, if it is not there.
absl::Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0755) == 0) return SyncDirectoryOf(path);
  return errno == EEXIST ? absl::OkStatus() : ErrnoStatus(errno, path, "mkdir");
}

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& path) {
  DIR* const folder = opendir(path.c_str());
  if (folder == nullptr) return ErrnoStatus(errno, path, "opendir");
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status Unlink(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoStatus(errno, path, "unlink");
}

class FileReader final : public BlobReader {
 public:
  static absl::StatusOr<std::unique_ptr<BlobReader>> Open(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus(errno, path, "open");
    std::unique_ptr<FileReader> reader(new FileReader(path, fd));
    struct stat info;
    if (fstat(fd, &info) != 0) return ErrnoStatus(errno, path, "fstat");
    reader->size_ = info.st_size;
    return reader;
  }

  int64_t size() const override { return size_; }

  absl::StatusOr<int64_t> Read(int64_t offset, absl::Span<char> out) const override {
    size_t filled = 0;
    while (filled < out.size()) {
      const ssize_t count = pread(fd_.get(), out.data() + filled, out.size() - filled,
                                  offset + static_cast<int64_t>(filled));
      if (count < 0 && errno == EINTR) continue;
      // EIO: the disk itself cannot read what it was given.
      if (count < 0 && errno == EIO) return absl::DataLossError(absl::StrCat(path_, ": read: EIO"));
      if (count < 0) return ErrnoStatus(errno, path_, "read");
      if (count == 0) break;
      filled += static_cast<size_t>(count);
    }
    return static_cast<int64_t>(filled);
  }

  absl::StatusOr<absl::string_view> Map() override {
    if (mapped_ == nullptr) {
      DW_ASSIGN_OR_RETURN(mapped_, MappedFile::OfDescriptor(fd_.get(), path_));
    }
    return mapped_->bytes();
  }

 private:
  FileReader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  const std::string path_;
  const Fd fd_;
  int64_t size_ = 0;
  std::unique_ptr<MappedFile> mapped_;
};

}  // namespace

absl::StatusOr<std::string> DigestOf(const BlobReader& reader) {
  Sha256Stream digest;
  // Small blobs are many, and a megabyte costs more than their digest.
  std::string buffer(static_cast<size_t>(std::clamp<int64_t>(reader.size(), 1, 1 << 20)), '\0');
  for (int64_t offset = 0;;) {
    DW_ASSIGN_OR_RETURN(const int64_t count, reader.Read(offset, absl::MakeSpan(buffer)));
    if (count == 0) return digest.Finish();
    digest.Update(absl::string_view(buffer).substr(0, static_cast<size_t>(count)));
    offset += count;
  }
}

absl::StatusOr<std::unique_ptr<LocalBlobStore>> LocalBlobStore::Open(const std::string& folder) {
  DW_RETURN_IF_ERROR(MakeDirectories(folder));
  for (const char* part : {"/staged", "/objects"}) DW_RETURN_IF_ERROR(MakeFolder(folder + part));
  return std::unique_ptr<LocalBlobStore>(new LocalBlobStore(folder));
}

std::string LocalBlobStore::StagedPath(const std::string& id) const {
  CHECK(IsResourceId(id)) << id;
  return absl::StrCat(folder_, "/staged/", id);
}

std::string LocalBlobStore::PathOf(const ObjectKey& key) const {
  CHECK(IsSha256Digest(key.digest)) << key.digest;
  const absl::string_view hex = absl::string_view(key.digest).substr(7);
  return absl::StrCat(folder_, "/objects/", hex.substr(0, 2), "/", hex, ".", key.generation);
}

absl::Status LocalBlobStore::AppendStaged(const std::string& id, int64_t offset,
                                          absl::string_view data) {
  const std::string path = StagedPath(id);
  const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (fd.get() < 0) return ErrnoStatus(errno, path, "open");
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, path, "fstat");
  if (info.st_size < offset) {
    return absl::DataLossError(
        absl::StrCat(path, ": has ", info.st_size, " bytes, want at least ", offset));
  }
  if (info.st_size > offset && ftruncate(fd.get(), offset) != 0) {
    return ErrnoStatus(errno, path, "ftruncate");
  }
  while (!data.empty()) {
    const ssize_t count = pwrite(fd.get(), data.data(), data.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, path, "write");
    offset += count;
    data.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status LocalBlobStore::SyncStaged(const std::string& id) {
  DW_RETURN_IF_ERROR(SyncFile(StagedPath(id)));
  return SyncDirectoryOf(StagedPath(id));
}

absl::StatusOr<std::unique_ptr<BlobReader>> LocalBlobStore::OpenStaged(const std::string& id) {
  return FileReader::Open(StagedPath(id));
}

absl::Status LocalBlobStore::StageFile(const std::string& id, const std::string& path) {
  const std::string target = StagedPath(id);
  if (rename(path.c_str(), target.c_str()) != 0) {
    if (errno != EXDEV) return ErrnoStatus(errno, path, "rename");
    std::error_code error;
    std::filesystem::copy_file(path, target, std::filesystem::copy_options::overwrite_existing,
                               error);
    if (error) return ErrnoStatus(error.value(), target, "copy");
  }
  return SyncStaged(id);
}

absl::Status LocalBlobStore::DropStaged(const std::string& id) { return Unlink(StagedPath(id)); }

absl::StatusOr<std::vector<std::string>> LocalBlobStore::ListStaged() {
  return NamesIn(folder_ + "/staged");
}

absl::Status LocalBlobStore::Promote(const std::string& id, const ObjectKey& key) {
  const std::string staged = StagedPath(id);
  const std::string path = PathOf(key);
  DW_RETURN_IF_ERROR(MakeFolder(std::filesystem::path(path).parent_path().string()));
  DW_RETURN_IF_ERROR(SyncFile(staged));
  if (rename(staged.c_str(), path.c_str()) != 0) return ErrnoStatus(errno, path, "rename");
  // Not before: what stays staged after a failure must be writable to be tried again.
  if (chmod(path.c_str(), 0444) != 0) return ErrnoStatus(errno, path, "chmod");
  return SyncDirectoryOf(path);
}

absl::StatusOr<std::unique_ptr<BlobReader>> LocalBlobStore::Open(const ObjectKey& key) {
  return FileReader::Open(PathOf(key));
}

absl::Status LocalBlobStore::Remove(const ObjectKey& key) { return Unlink(PathOf(key)); }

absl::StatusOr<std::vector<ObjectKey>> LocalBlobStore::List() {
  std::vector<ObjectKey> keys;
  DW_ASSIGN_OR_RETURN(const auto folders, NamesIn(folder_ + "/objects"));
  for (const std::string& folder : folders) {
    DW_ASSIGN_OR_RETURN(const auto names, NamesIn(absl::StrCat(folder_, "/objects/", folder)));
    for (const std::string& name : names) {
      // Anything else was put there by somebody else and is left alone.
      const size_t dot = name.find('.');
      ObjectKey key;
      key.digest = absl::StrCat("sha256:", name.substr(0, dot));
      if (dot != name.npos && IsSha256Digest(key.digest) &&
          absl::SimpleAtoi(name.substr(dot + 1), &key.generation)) {
        keys.push_back(std::move(key));
      }
    }
  }
  return keys;
}

absl::Status LocalBlobStore::Link(const ObjectKey& key, const std::string& path) {
  const std::string from = PathOf(key);
  if (link(from.c_str(), path.c_str()) == 0) return absl::OkStatus();
  if (errno != EXDEV) return ErrnoStatus(errno, path, "link");
  std::error_code error;
  std::filesystem::copy_file(from, path, error);
  return error ? ErrnoStatus(error.value(), path, "copy") : absl::OkStatus();
}

absl::StatusOr<int64_t> LocalBlobStore::AvailableBytes() {
  struct statvfs info;
  if (statvfs(folder_.c_str(), &info) != 0) return ErrnoStatus(errno, folder_, "statvfs");
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

}  // namespace deltaworks::services
