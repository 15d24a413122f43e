// DeviceLock: one worker process per device of a machine, and its incarnation.
//
// FOLDER/DEVICE.lock ("cpu-0.lock") is locked with flock(2) while the process lives; it holds the
// last incarnation, raised under the lock by every new process and synced before it is used. Should
// the file have been lost, the incarnation goes on from the wall clock's seconds, so that it does
// not fall behind what the scheduler has seen.

#ifndef DELTAWORKS_SERVICES_WORKER_DEVICE_LOCK_H_
#define DELTAWORKS_SERVICES_WORKER_DEVICE_LOCK_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/file_lock.h"

namespace deltaworks::services {

class DeviceLock {
 public:
  // `device` is "cpu:0" or "cuda:1". The folder is made if it is absent.
  //   FailedPrecondition  another worker has the device; the message says what to do.
  //   InvalidArgument     `device` is no device id.
  static absl::StatusOr<DeviceLock> Acquire(const std::string& folder, const std::string& device,
                                            absl::Time now);

  int64_t incarnation() const { return incarnation_; }

 private:
  DeviceLock(FileLock lock, int64_t incarnation)
      : lock_(std::move(lock)), incarnation_(incarnation) {}
  FileLock lock_;
  int64_t incarnation_;
};

// "cpu:0" -> "cpu-0", as in the worker's name. InvalidArgument for anything but KIND:NUMBER.
absl::StatusOr<std::string> DeviceId(const std::string& device);

// workers/{machine id}-{device id}. `machine_id`: letters, digits and "-"; at most 50 of it are
// used.
absl::StatusOr<std::string> WorkerName(const std::string& machine_id, const std::string& device);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_DEVICE_LOCK_H_
