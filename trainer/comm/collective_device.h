// CollectiveDevice: what NcclCommunicator needs of a GPU, so that it can be tested without one.
//
// It stands for one device and one stream on it. Add, Copy, CopyToDevice and CopyToHost enqueue on
// the stream and return; they run in the order of their calls, among each other and with what NCCL
// enqueues on the same stream. Wait sees them end. Errors are the device's: Internal, naming the
// call; a fault of what was enqueued comes out of Wait.
//
// Thread rule: one thread at a time, but MakeCurrent, which any thread may call for itself.
// Implementations: HostDevice (testing/host_device.h); CUDA's is where CUDA is.

#ifndef DELTAWORKS_TRAINER_COMM_COLLECTIVE_DEVICE_H_
#define DELTAWORKS_TRAINER_COMM_COLLECTIVE_DEVICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

class CollectiveDevice {
 public:
  virtual ~CollectiveDevice() = default;

  // Makes the device the calling thread's (cudaSetDevice): NCCL takes it from there.
  virtual absl::Status MakeCurrent() = 0;

  // ResourceExhausted if the device has no room. The memory must not be given back while something
  // that is enqueued uses it.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) = 0;

  // to[i] = to[i] + from[i], f32, on the device.
  virtual absl::Status Add(const float* from, float* to, int64_t count) = 0;

  // Device to device.
  virtual absl::Status Copy(const void* from, void* to, int64_t bytes) = 0;

  // A few bytes; the host's memory must stay as it is until Wait has said true.
  virtual absl::Status CopyToDevice(const void* host, void* device, int64_t bytes) = 0;
  virtual absl::Status CopyToHost(const void* device, void* host, int64_t bytes) = 0;

  // The stream, as NCCL takes it: a cudaStream_t.
  virtual void* stream() = 0;

  // True once everything enqueued has ended; false if it has not within `patience`.
  virtual absl::StatusOr<bool> Wait(absl::Duration patience) = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_COLLECTIVE_DEVICE_H_
