#include "services/base/compute_device.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "services/base/log.h"
#include "services/base/machine.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/backend/cuda/cuda_collective.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kThreadsMax = 1'024;
constexpr size_t kSmallFileBytesMax = 1 << 20;
// What CUDA's context, its libraries and three backends' workspaces for products take of a card.
constexpr int64_t kCardReserveBytes = int64_t{1} << 30;

// "cuda:1" -> 1.
std::optional<int> CardNumber(absl::string_view device) {
  int number = 0;
  if (!absl::ConsumePrefix(&device, "cuda:") || !absl::SimpleAtoi(device, &number) || number < 0) {
    return std::nullopt;
  }
  return number;
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

absl::StatusOr<ComputeDevice> FindCard(const std::string& name, int number, bool graphs) {
  const absl::StatusOr<std::vector<trainer::CudaDevice>> cards = trainer::FindCudaDevices();
  if (!cards.ok()) {
    return absl::UnavailableError(
        absl::StrCat("device is \"", name, "\", but ", cards.status().message()));
  }
  if (number >= static_cast<int>(cards->size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", name, "\", want cuda:0..", cards->size() - 1));
  }
  const trainer::CudaDevice& card = (*cards)[number];
  return ComputeDevice{
      .kind = "cuda",
      .description = card.name,
      .memory_bytes = card.memory_bytes - kCardReserveBytes,
      .new_backend =
          [number, graphs](trainer::DType type) {
            return trainer::NewCudaBackend(
                {.compute_type = type, .device = number, .graphs = graphs});
          },
      .new_collective = [number] { return trainer::NewCudaCollectiveDevice(number); },
  };
}

}  // namespace

std::string ChooseDevice(const std::string& device) {
  if (device != "auto") return device;
  const auto cards = trainer::FindCudaDevices();
  if (cards.ok()) return "cuda:0";
  LogInfo("there is no GPU to use, so the cores of this machine compute",
          {{"reason", cards.status().message()}});
  return "cpu:0";
}

absl::StatusOr<ComputeDevice> FindComputeDevice(const ComputeDeviceSettings& settings) {
  const auto& [device, threads, cores, graphs] = settings;
  if (threads < 0 || threads > kThreadsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", threads, ", want 0..", kThreadsMax));
  }
  if (const std::optional<int> card = CardNumber(device)) return FindCard(device, *card, graphs);
  if (!absl::StartsWith(device, "cpu:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", device, "\", want cpu:N or cuda:N"));
  }
  const int count = threads > 0 ? static_cast<int>(threads) : ThreadsFor(cores);
  return ComputeDevice{
      .kind = "cpu",
      .description = absl::StrCat(ProcessorName(), ", ", count, " threads"),
      .memory_bytes = MemoryOfThisProcess() / 4 * 3,
      .new_backend =
          [count, cores = settings.cores](trainer::DType type) {
            return trainer::NewCpuBackend({.compute_type = type, .threads = count, .cores = cores});
          },
      .new_collective = nullptr,
  };
}

}  // namespace deltaworks::services
