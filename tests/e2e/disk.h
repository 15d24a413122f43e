// Disk: a folder of one service that becomes full when a test says so (tests/full_disk), and has
// room again when it says so. The service needs Environment() when it starts; what it sees then
// changes under it while it runs. Thread-compatible.

#ifndef DELTAWORKS_TESTS_E2E_DISK_H_
#define DELTAWORKS_TESTS_E2E_DISK_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace deltaworks::e2e {

class Disk {
 public:
  // `name`: of several disks on one folder, each with a service of its own.
  explicit Disk(std::string folder, const std::string& name = "")
      : folder_(std::move(folder)), room_file_(folder_ + name + ".room") {}

  // For a life of the service in which so many bytes fit while there is no room; then every write
  // fails with `error`: ENOSPC, EIO or EROFS.
  std::vector<std::string> Environment(int64_t after_bytes,
                                       const std::string& error = "ENOSPC") const;
  // Files may grow without end, also if the disk was full.
  void MakeRoom() const;
  // Only what is left of `after_bytes` still fits. So it begins.
  void TakeRoom() const;

  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  std::string room_file_;
};

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_DISK_H_
