#include "services/worker/device.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "services/base/machine.h"
#include "services/base/version.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kThreadsMax = 1'024;
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

absl::Status CheckBounds(const DeviceSettings& settings) {
  if (!absl::StartsWith(settings.device, "cpu:")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device is \"", settings.device, "\", want cpu:N: this build has no other backend"));
  }
  if (settings.threads < 0 || settings.threads > kThreadsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", settings.threads, ", want 0..", kThreadsMax));
  }
  if (settings.memory_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory_bytes is ", settings.memory_bytes, ", want at least 0"));
  }
  return absl::OkStatus();
}

// "AMD EPYC 9654"; "CPU" where the kernel names none.
std::string ProcessorName() {
  const auto text = ReadFile("/proc/cpuinfo", kSmallFileBytesMax);
  if (!text.ok()) return "CPU";
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() == 2 && absl::StartsWith(parts[0], "model name")) {
      return std::string(absl::StripAsciiWhitespace(parts[1]));
    }
  }
  return "CPU";
}

}  // namespace

absl::StatusOr<Device> OpenDevice(const DeviceSettings& settings) {
  DW_RETURN_IF_ERROR(CheckBounds(settings));
  DW_ASSIGN_OR_RETURN(const std::vector<int> cores, ParseCores(settings.cores));
  const int threads = settings.threads > 0 ? static_cast<int>(settings.threads) : ThreadsFor(cores);
  Device device;
  device.new_backend = [threads, cores](trainer::DType type) {
    return trainer::NewCpuBackend({.compute_type = type, .threads = threads, .cores = cores});
  };
  // A job's compute type is its own, so the class of a worker names both.
  std::vector<std::string> classes;
  for (const trainer::DType type : {trainer::DType::kF32, trainer::DType::kBF16}) {
    DW_ASSIGN_OR_RETURN(const auto backend, device.new_backend(type));
    classes.push_back(backend->numerics_class());
  }
  v1::WorkerEnvironment& environment = device.environment;
  environment.set_numerics_class(absl::StrJoin(classes, " "));
  environment.set_device(settings.device);
  environment.set_device_kind("cpu");
  environment.set_device_description(absl::StrCat(ProcessorName(), ", ", threads, " threads"));
  environment.set_memory_bytes(settings.memory_bytes > 0 ? settings.memory_bytes
                                                         : MemoryOfThisProcess() / 4 * 3);
  environment.set_build_version(BuildVersion());
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
