// HostDevice: a CollectiveDevice in the host's memory, whose stream is a thread: like a GPU's, it
// does what is enqueued later and in order, and the host sees it only by waiting. stream() is a
// HostStream.

#ifndef DELTAWORKS_TRAINER_COMM_TESTING_HOST_DEVICE_H_
#define DELTAWORKS_TRAINER_COMM_TESTING_HOST_DEVICE_H_

#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "trainer/base/mutex.h"
#include "trainer/comm/collective_device.h"
#include "trainer/comm/testing/host_stream.h"

namespace deltaworks::trainer {

class HostDevice final : public CollectiveDevice, public HostStream {
 public:
  HostDevice();
  // Runs what is enqueued to its end.
  ~HostDevice() override;

  absl::Status MakeCurrent() override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override;
  absl::Status Add(const float* from, float* to, int64_t count) override;
  absl::Status Copy(const void* from, void* to, int64_t bytes) override;
  absl::Status CopyToDevice(const void* host, void* device, int64_t bytes) override;
  absl::Status CopyToHost(const void* device, void* host, int64_t bytes) override;
  void* stream() override { return static_cast<HostStream*>(this); }
  absl::StatusOr<bool> Wait(absl::Duration patience) override;

  void Enqueue(void (*run)(void* argument), void* argument) override;

 private:
  void Enqueue(std::function<void()> task);
  void Run();

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);  // The first may be running.
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TESTING_HOST_DEVICE_H_
