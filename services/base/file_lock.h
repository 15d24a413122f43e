// FileLock: flock(2) on a file that is made if it is absent, held while the object lives, and freed
// by the system when the process dies. The file stays. Movable, thread-compatible.

#ifndef DELTAWORKS_SERVICES_BASE_FILE_LOCK_H_
#define DELTAWORKS_SERVICES_BASE_FILE_LOCK_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace deltaworks::services {

class FileLock {
 public:
  // FailedPrecondition if another process, or another FileLock, has it.
  static absl::StatusOr<FileLock> TryAcquire(const std::string& path);

  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

  int fd() const { return fd_; }

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_FILE_LOCK_H_
