// FaultyBackend: another backend whose device fails when a test says so. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_WORKER_TESTING_FAULTY_BACKEND_H_
#define DELTAWORKS_SERVICES_WORKER_TESTING_FAULTY_BACKEND_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"
#include "trainer/testing/forwarding_backend.h"

namespace deltaworks::services {

// What is wrong with a device, whichever backend it has by now.
struct DeviceFaults {
  absl::Status at_synchronize;           // Of the next one; after it that backend is dead.
  absl::Status at_allocate;              // While it is not OK.
  std::function<void()> in_synchronize;  // Called in each, so that a pass takes time.
  int backends_made = 0;
};

class FaultyBackend final : public trainer::ForwardingBackend {
 public:
  // `faults` must outlive it.
  FaultyBackend(std::unique_ptr<trainer::Backend> backend, DeviceFaults& faults)
      : ForwardingBackend(*backend), owned_(std::move(backend)), faults_(faults) {
    ++faults_.backends_made;
  }

  absl::Status Synchronize() override {
    if (dead_) return absl::FailedPreconditionError("the backend is dead");
    if (faults_.in_synchronize) faults_.in_synchronize();
    const absl::Status fault = std::exchange(faults_.at_synchronize, absl::OkStatus());
    dead_ = !fault.ok();
    return dead_ ? fault : ForwardingBackend::Synchronize();
  }
  absl::StatusOr<std::unique_ptr<trainer::DeviceBuffer>> Allocate(int64_t bytes) override {
    if (!faults_.at_allocate.ok()) return faults_.at_allocate;
    return ForwardingBackend::Allocate(bytes);
  }
  absl::Status ReserveScratch(const trainer::PassShape& pass) override {
    const int64_t bytes = pass.rows == 0 ? 0 : ScratchBytes(pass);
    if (!faults_.at_allocate.ok() && bytes > scratch_bytes_) return faults_.at_allocate;
    scratch_bytes_ = bytes == 0 ? 0 : std::max(bytes, scratch_bytes_);
    return ForwardingBackend::ReserveScratch(pass);
  }

 private:
  int64_t scratch_bytes_ = 0;  // Reserved.
  const std::unique_ptr<trainer::Backend> owned_;
  DeviceFaults& faults_;
  bool dead_ = false;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TESTING_FAULTY_BACKEND_H_
