#include "trainer/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks {
namespace {

// Closes a descriptor on every path out of a function.
class FdCloser {
 public:
  explicit FdCloser(int fd) : fd_(fd) {}
  ~FdCloser() { close(fd_); }
  FdCloser(const FdCloser&) = delete;
  FdCloser& operator=(const FdCloser&) = delete;

 private:
  const int fd_;
};

}  // namespace

absl::Status ErrnoStatus(int error, absl::string_view path, absl::string_view call) {
  const std::string message = absl::StrCat(path, ": ", call, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path, "open");
  const FdCloser closer(fd);
  return OfDescriptor(fd, path);
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::OfDescriptor(int fd,
                                                                     const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, path, "fstat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  void* data = nullptr;
  const size_t size = static_cast<size_t>(info.st_size);
  if (size > 0) {
    data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return ErrnoStatus(errno, path, "mmap");
  }
  return std::unique_ptr<MappedFile>(new MappedFile(path, data, size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t size_max) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path, "open");
  const FdCloser closer(fd);
  std::string result;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, path, "read");
    if (count == 0) return result;
    if (static_cast<int64_t>(result.size()) + count > size_max) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path, ": larger than ", size_max, " bytes, the most that is read here"));
    }
    result.append(buffer, static_cast<size_t>(count));
  }
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(const std::string& path) {
  static std::atomic<int64_t> next_number{0};
  const std::string temp_path = absl::StrCat(path, ".tmp.", getpid(), ".", next_number++);
  const int fd = open(temp_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, temp_path, "open");
  return std::unique_ptr<AtomicFile>(new AtomicFile(path, temp_path, fd));
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temp_path_.c_str());
}

absl::Status AtomicFile::Append(absl::string_view data) {
  if (fd_ < 0) return absl::FailedPreconditionError(absl::StrCat(path_, ": already committed"));
  while (!data.empty()) {
    const ssize_t count = write(fd_, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, temp_path_, "write");
    data.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  if (fd_ < 0) return absl::FailedPreconditionError(absl::StrCat(path_, ": already committed"));
  if (fsync(fd_) != 0) return ErrnoStatus(errno, temp_path_, "fsync");
  if (rename(temp_path_.c_str(), path_.c_str()) != 0) return ErrnoStatus(errno, path_, "rename");
  close(std::exchange(fd_, -1));
  return SyncDirectoryOf(path_);
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view data) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(path));
  DW_RETURN_IF_ERROR(file->Append(data));
  return file->Commit();
}

absl::Status SyncDirectoryOf(const std::string& path) {
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory.push_back('.');
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, directory, "open");
  const FdCloser closer(fd);
  return fsync(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, directory, "fsync");
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ErrnoStatus(error.value(), path, "mkdir");
  return absl::OkStatus();
}

}  // namespace deltaworks
