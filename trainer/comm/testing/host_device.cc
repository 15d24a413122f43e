#include "trainer/comm/testing/host_device.h"

#include <cstring>
#include <utility>
#include <vector>

#include "trainer/comm/monotonic.h"

namespace deltaworks::trainer {
namespace {

class HostBuffer final : public DeviceBuffer {
 public:
  explicit HostBuffer(int64_t bytes) : floats_((bytes + 3) / 4), bytes_(bytes) {}
  void* data() override { return floats_.data(); }
  int64_t bytes() const override { return bytes_; }

 private:
  std::vector<float> floats_;
  const int64_t bytes_;
};

}  // namespace

HostDevice::HostDevice() : thread_([this] { Run(); }) {}

HostDevice::~HostDevice() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> HostDevice::Allocate(int64_t bytes) {
  return std::make_unique<HostBuffer>(bytes);
}

absl::Status HostDevice::Add(const float* from, float* to, int64_t count) {
  Enqueue([=] {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
  });
  return absl::OkStatus();
}

absl::Status HostDevice::Copy(const void* from, void* to, int64_t bytes) {
  Enqueue([=] { std::memcpy(to, from, bytes); });
  return absl::OkStatus();
}

absl::Status HostDevice::CopyToDevice(const void* host, void* device, int64_t bytes) {
  return Copy(host, device, bytes);
}

absl::Status HostDevice::CopyToHost(const void* device, void* host, int64_t bytes) {
  return Copy(device, host, bytes);
}

absl::StatusOr<bool> HostDevice::Wait(absl::Duration patience) {
  const absl::Time deadline = MonotonicNow() + patience;
  MutexLock lock(&mutex_);
  while (!tasks_.empty()) {
    const absl::Duration left = deadline - MonotonicNow();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitWithTimeout(&mutex_, left);
  }
  return true;
}

void HostDevice::Enqueue(void (*run)(void* argument), void* argument) {
  Enqueue([run, argument] { run(argument); });
}

void HostDevice::Enqueue(std::function<void()> task) {
  MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
  changed_.SignalAll();
}

void HostDevice::Run() {
  mutex_.Lock();
  while (true) {
    while (tasks_.empty() && !stop_) changed_.Wait(&mutex_);
    if (tasks_.empty()) break;
    const std::function<void()> task = tasks_.front();
    mutex_.Unlock();
    task();
    mutex_.Lock();
    tasks_.pop_front();
    changed_.SignalAll();
  }
  mutex_.Unlock();
}

}  // namespace deltaworks::trainer
