#include "services/worker/device_lock.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/base/resource_names.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr size_t kMachineIdBytesMax = 50;

absl::StatusOr<int64_t> ReadCounter(int fd, const std::string& path) {
  char text[32] = {};
  const ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
  if (size < 0) return ErrnoStatus(errno, path, "read");
  int64_t counter = 0;
  // An empty or damaged file counts as lost.
  if (!absl::SimpleAtoi(absl::string_view(text, static_cast<size_t>(size)), &counter)) return 0;
  return std::max<int64_t>(0, counter);
}

absl::Status WriteCounter(int fd, const std::string& path, int64_t counter) {
  const std::string text = absl::StrCat(counter, "\n");
  if (pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return ErrnoStatus(errno, path, "write");
  }
  if (ftruncate(fd, static_cast<off_t>(text.size())) != 0) {
    return ErrnoStatus(errno, path, "ftruncate");
  }
  return fsync(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path, "fsync");
}

}  // namespace

absl::StatusOr<std::string> DeviceId(const std::string& device) {
  const std::vector<std::string> parts = absl::StrSplit(device, ':');
  int64_t number = -1;
  if (parts.size() != 2 || (parts[0] != "cpu" && parts[0] != "cuda") ||
      !absl::SimpleAtoi(parts[1], &number) || number < 0 || number > 9'999) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", device, "\", want cpu:N or cuda:N, N in 0..9999"));
  }
  return absl::StrCat(parts[0], "-", number);
}

absl::StatusOr<std::string> WorkerName(const std::string& machine_id, const std::string& device) {
  DW_ASSIGN_OR_RETURN(const std::string device_id, DeviceId(device));
  const std::string machine = absl::AsciiStrToLower(machine_id.substr(0, kMachineIdBytesMax));
  const std::string id = absl::StrCat(machine, "-", device_id);
  if (!IsResourceId(id)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "machine_id is \"", machine_id, "\", want letters, digits and \"-\", not at its begin"));
  }
  return absl::StrCat("workers/", id);
}

absl::StatusOr<DeviceLock> DeviceLock::Acquire(const std::string& folder, const std::string& device,
                                               absl::Time now) {
  DW_ASSIGN_OR_RETURN(const std::string device_id, DeviceId(device));
  DW_RETURN_IF_ERROR(MakeDirectories(folder));
  const std::string path = absl::StrCat(folder, "/", device_id, ".lock");
  absl::StatusOr<FileLock> lock = FileLock::TryAcquire(path);
  if (absl::IsFailedPrecondition(lock.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("device ", device, " belongs to another worker, which has locked ", path,
                     "; stop that one or choose another --device"));
  }
  DW_RETURN_IF_ERROR(lock.status());
  DW_ASSIGN_OR_RETURN(const int64_t last, ReadCounter(lock->fd(), path));
  const int64_t incarnation = last > 0 ? last + 1 : std::max<int64_t>(1, absl::ToUnixSeconds(now));
  DW_RETURN_IF_ERROR(WriteCounter(lock->fd(), path, incarnation));
  return DeviceLock(*std::move(lock), incarnation);
}

}  // namespace deltaworks::services
