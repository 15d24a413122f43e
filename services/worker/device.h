// Device: what a worker computes on, made from its settings, and what it tells the scheduler of it.
//
// One device by process: "cpu:N" is a share of this machine's cores, "cuda:N" one of its NVIDIA
// GPUs. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_DEVICE_H_
#define DELTAWORKS_SERVICES_WORKER_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "trainer/backend/backend.h"
#include "trainer/comm/collective_device.h"

namespace deltaworks::services {

struct DeviceSettings {
  std::string device = "cpu:0";  // Or "auto", see ChooseDevice().
  // 0: as many as `cores`, or as this process may use. At most 1,024.
  int64_t threads = 0;
  // Numbers of the cores that the threads are bound to; none: any.
  std::vector<std::string> cores;
  // What jobs may use; 0: three quarters of what this process may have, or nearly all of a GPU.
  int64_t memory_bytes = 0;
  // KEY=VALUE; at most 64, values at most 256 bytes.
  std::vector<std::string> labels;
};

struct Device {
  v1::WorkerEnvironment environment;  // Without bases_cached.
  std::function<absl::StatusOr<std::unique_ptr<trainer::Backend>>(trainer::DType)> new_backend;
  // For gangs; empty if the device's memory is the host's.
  std::function<absl::StatusOr<std::unique_ptr<trainer::CollectiveDevice>>()> new_collective;
};

// "auto" becomes "cuda:0" if this build and machine can use one, else "cpu:0", and the log says
// why; anything else stays.
std::string ChooseDevice(const std::string& device);

//   InvalidArgument     a setting that is wrong, "auto" among them.
//   Unavailable         a GPU that this build or machine cannot use; says why.
//   FailedPrecondition  a library that a GPU needs was not found.
absl::StatusOr<Device> OpenDevice(const DeviceSettings& settings);

// What tells this machine from others: /etc/machine-id, or else the host's name.
absl::StatusOr<std::string> MachineId();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_DEVICE_H_
