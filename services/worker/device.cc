#include "services/worker/device.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "services/base/log.h"
#include "services/base/machine.h"
#include "services/base/version.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/backend/cuda/cuda_collective.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kThreadsMax = 1'024;
constexpr size_t kLabelsMax = 64;
constexpr size_t kLabelBytesMax = 256;
constexpr size_t kSmallFileBytesMax = 1 << 20;
// What CUDA's context, its libraries and two backends' workspaces for products take of a card.
constexpr int64_t kCardReserveBytes = int64_t{1} << 30;

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

// "cuda:1" -> 1.
std::optional<int> CardNumber(absl::string_view device) {
  int number = 0;
  if (!absl::ConsumePrefix(&device, "cuda:") || !absl::SimpleAtoi(device, &number) || number < 0) {
    return std::nullopt;
  }
  return number;
}

absl::Status CheckBounds(const DeviceSettings& settings) {
  if (!absl::StartsWith(settings.device, "cpu:") && !CardNumber(settings.device).has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", settings.device, "\", want cpu:N or cuda:N"));
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

// A job's compute type is its own, so the class of a worker names both.
absl::Status AddNumericsClasses(Device* device) {
  std::vector<std::string> classes;
  for (const trainer::DType type : {trainer::DType::kF32, trainer::DType::kBF16}) {
    DW_ASSIGN_OR_RETURN(const auto backend, device->new_backend(type));
    classes.push_back(backend->numerics_class());
  }
  device->environment.set_numerics_class(absl::StrJoin(classes, " "));
  return absl::OkStatus();
}

absl::StatusOr<Device> OpenCard(const DeviceSettings& settings, int number) {
  const absl::StatusOr<std::vector<trainer::CudaDevice>> cards = trainer::FindCudaDevices();
  if (!cards.ok()) {
    return absl::UnavailableError(
        absl::StrCat("device is \"", settings.device, "\", but ", cards.status().message()));
  }
  if (number >= static_cast<int>(cards->size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", settings.device, "\", want cuda:0..", cards->size() - 1));
  }
  const trainer::CudaDevice& card = (*cards)[number];
  Device device;
  device.new_backend = [number](trainer::DType type) {
    return trainer::NewCudaBackend({.compute_type = type, .device = number});
  };
  device.new_collective = [number] { return trainer::NewCudaCollectiveDevice(number); };
  v1::WorkerEnvironment& environment = device.environment;
  environment.set_device_kind("cuda");
  environment.set_device_description(card.name);
  environment.set_memory_bytes(settings.memory_bytes > 0 ? settings.memory_bytes
                                                         : card.memory_bytes - kCardReserveBytes);
  return device;
}

absl::StatusOr<Device> OpenCores(const DeviceSettings& settings) {
  DW_ASSIGN_OR_RETURN(const std::vector<int> cores, ParseCores(settings.cores));
  const int threads = settings.threads > 0 ? static_cast<int>(settings.threads) : ThreadsFor(cores);
  Device device;
  device.new_backend = [threads, cores](trainer::DType type) {
    return trainer::NewCpuBackend({.compute_type = type, .threads = threads, .cores = cores});
  };
  v1::WorkerEnvironment& environment = device.environment;
  environment.set_device_kind("cpu");
  environment.set_device_description(absl::StrCat(ProcessorName(), ", ", threads, " threads"));
  environment.set_memory_bytes(settings.memory_bytes > 0 ? settings.memory_bytes
                                                         : MemoryOfThisProcess() / 4 * 3);
  return device;
}

}  // namespace

std::string ChooseDevice(const std::string& device) {
  if (device != "auto") return device;
  const auto cards = trainer::FindCudaDevices();
  if (cards.ok()) return "cuda:0";
  LogInfo("there is no GPU to use, the worker computes on this machine's cores",
          {{"reason", cards.status().message()}});
  return "cpu:0";
}

absl::StatusOr<Device> OpenDevice(const DeviceSettings& settings) {
  DW_RETURN_IF_ERROR(CheckBounds(settings));
  const std::optional<int> card = CardNumber(settings.device);
  DW_ASSIGN_OR_RETURN(Device device,
                      card.has_value() ? OpenCard(settings, *card) : OpenCores(settings));
  DW_RETURN_IF_ERROR(AddNumericsClasses(&device));
  device.environment.set_device(settings.device);
  device.environment.set_build_version(BuildVersion());
  DW_RETURN_IF_ERROR(AddLabels(settings.labels, &device.environment));
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
