// Device: what a worker computes on, made from its settings, and what it tells the scheduler of it.
// One device by process. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_DEVICE_H_
#define DELTAWORKS_SERVICES_WORKER_DEVICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/compute_device.h"

namespace deltaworks::services {

struct DeviceSettings {
  std::string device = "cpu:0";  // Or "auto", see ChooseDevice().
  // 0: as many as `cores`, or as this process may use. At most 1,024.
  int64_t threads = 0;
  // Numbers of the cores that the threads are bound to; none: any.
  std::vector<std::string> cores;
  bool cuda_graphs = false;  // Of cuda:N: CudaOptions::graphs.
  // What jobs may use; 0: three quarters of what this process may have, or nearly all of a GPU.
  int64_t memory_bytes = 0;
  // KEY=VALUE; at most 64, values at most 256 bytes.
  std::vector<std::string> labels;
};

struct Device {
  v1::WorkerEnvironment environment;  // Without bases_cached, and what gangs need.
  ComputeDevice compute;
};

//   InvalidArgument     a setting that is wrong, "auto" among them.
//   Unavailable         a GPU that this build or machine cannot use; says why.
//   FailedPrecondition  a library that a GPU needs was not found.
absl::StatusOr<Device> OpenDevice(const DeviceSettings& settings);

// What tells this machine from others: /etc/machine-id, or else the host's name.
absl::StatusOr<std::string> MachineId();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_DEVICE_H_
