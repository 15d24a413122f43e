// ComputeDevice: what a worker or an inference service computes on, by the name that people give
// it: "cpu:N" is a share of this machine's cores, "cuda:N" one of its NVIDIA GPUs, "auto" a GPU if
// there is one. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_COMPUTE_DEVICE_H_
#define DELTAWORKS_SERVICES_BASE_COMPUTE_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"
#include "trainer/comm/collective_device.h"

namespace deltaworks::services {

struct ComputeDevice {
  std::string kind;         // "cpu" or "cuda".
  std::string description;  // "AMD EPYC 9654, 8 threads", "NVIDIA H100 80GB HBM3".
  // For models and what they need: three quarters of what this process may have, or nearly all of a
  // GPU.
  int64_t memory_bytes = 0;
  // For kF32 or kBF16; of a GPU also for kF8E4M3, bf16 over a base in fp8.
  std::function<absl::StatusOr<std::unique_ptr<trainer::Backend>>(trainer::DType)> new_backend;
  // For gangs; empty if the device's memory is the host's.
  std::function<absl::StatusOr<std::unique_ptr<trainer::CollectiveDevice>>()> new_collective;
};

// Of the flag --cuda_graphs of those who have one.
inline constexpr char kCudaGraphsHelp[] =
    "of cuda:N: issue what repeats as CUDA graphs; the same bytes; not yet run on a GPU";

struct ComputeDeviceSettings {
  std::string device = "cpu:0";
  // Of cpu:N. 0: as many as `cores`, or as this process may use; at most 1,024.
  int64_t threads = 0;
  // Of cpu:N: those that the threads run on; none: any.
  std::vector<int> cores;
  // Of cuda:N: CudaOptions::graphs.
  bool cuda_graphs = false;
};

// "auto" becomes "cuda:0" if this build and machine can use one, else "cpu:0", and the log says
// why; anything else stays.
std::string ChooseDevice(const std::string& device);

//   InvalidArgument  a name or setting that is wrong, "auto" among them.
//   Unavailable      a GPU that this build or machine cannot use; says why.
absl::StatusOr<ComputeDevice> FindComputeDevice(const ComputeDeviceSettings& settings);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_COMPUTE_DEVICE_H_
