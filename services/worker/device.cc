#include "services/worker/device.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "services/base/machine.h"
#include "services/base/version.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr size_t kLabelsMax = 64;
constexpr size_t kLabelBytesMax = 256;
constexpr size_t kSmallFileBytesMax = 1 << 20;

absl::Status AddLabels(const std::vector<std::string>& labels, v1::WorkerEnvironment* environment) {
  if (labels.size() > kLabelsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("labels are ", labels.size(), ", want at most ", kLabelsMax));
  }
  for (const std::string& label : labels) {
    const std::vector<std::string> parts = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.size() != 2 || parts[0].empty() || label.size() > kLabelBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "labels has \"", label, "\", want KEY=VALUE of at most ", kLabelBytesMax, " bytes"));
    }
    (*environment->mutable_labels())[parts[0]] = parts[1];
  }
  return absl::OkStatus();
}

// A job's compute type is its own, so the class of a worker names all of them.
absl::Status AddNumericsClasses(Device* device) {
  std::vector<std::string> classes;
  std::vector<trainer::DType> types = {trainer::DType::kF32, trainer::DType::kBF16};
  if (device->compute.kind == "cuda") types.push_back(trainer::DType::kF8E4M3);
  for (const trainer::DType type : types) {
    DW_ASSIGN_OR_RETURN(const auto backend, device->compute.new_backend(type));
    classes.push_back(backend->numerics_class());
  }
  device->environment.set_numerics_class(absl::StrJoin(classes, " "));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Device> OpenDevice(const DeviceSettings& settings) {
  if (settings.memory_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory_bytes is ", settings.memory_bytes, ", want at least 0"));
  }
  DW_ASSIGN_OR_RETURN(const std::vector<int> cores, ParseCores(settings.cores));
  Device device;
  DW_ASSIGN_OR_RETURN(device.compute, FindComputeDevice({.device = settings.device,
                                                         .threads = settings.threads,
                                                         .cores = cores,
                                                         .cuda_graphs = settings.cuda_graphs}));
  v1::WorkerEnvironment& environment = device.environment;
  environment.set_device(settings.device);
  environment.set_device_kind(device.compute.kind);
  environment.set_device_description(device.compute.description);
  environment.set_memory_bytes(settings.memory_bytes > 0 ? settings.memory_bytes
                                                         : device.compute.memory_bytes);
  environment.set_build_version(BuildVersion());
  DW_RETURN_IF_ERROR(AddNumericsClasses(&device));
  DW_RETURN_IF_ERROR(AddLabels(settings.labels, &environment));
  return device;
}

absl::StatusOr<std::string> MachineId() {
  if (const auto text = ReadFile("/etc/machine-id", kSmallFileBytesMax); text.ok()) {
    const std::string id(absl::StripAsciiWhitespace(*text));
    if (!id.empty()) return id;
  }
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0') {
    return absl::InvalidArgumentError("machine_id is empty and the machine has none, want one");
  }
  std::string id(host);
  std::replace(id.begin(), id.end(), '.', '-');
  return id;
}

}  // namespace deltaworks::services
