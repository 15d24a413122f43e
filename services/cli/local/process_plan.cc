#include "services/cli/local/process_plan.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr std::array kServices = {"store", "registry", "scheduler", "inference", "worker"};
constexpr int kMetricsOffset = 100;
constexpr int kWorkerOffset = 9;
constexpr int kWorkerNice = 5;
// A worker ends the step it is in, takes a checkpoint of every job and uploads it.
constexpr absl::Duration kWorkerStopDeadline = absl::Seconds(45);
constexpr absl::Duration kStopDeadline = absl::Seconds(5);
// What a process gets beyond its own deadline before it is killed.
constexpr absl::Duration kStopMargin = absl::Seconds(5);

absl::Status CheckDevice(const std::string& device) {
  const std::vector<std::string> parts = absl::StrSplit(device, ':');
  int number = 0;
  if (parts.size() != 2 || (parts[0] != "cpu" && parts[0] != "cuda") ||
      !absl::SimpleAtoi(parts[1], &number) || number < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--train has \"", device, "\", want cpu:N or cuda:N"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const PlanOptions& options) {
  if (options.devices.empty() || options.devices.size() > kWorkersMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--train has ", options.devices.size(), " devices, want 1..", kWorkersMax));
  }
  std::set<std::string> devices;
  for (const std::string& device : options.devices) {
    DW_RETURN_IF_ERROR(CheckDevice(device));
    if (!devices.insert(device).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--train has \"", device, "\" twice, want each device once"));
    }
  }
  const int64_t port_max = 65535 - kMetricsOffset - kWorkerOffset - kWorkersMax;
  if (options.port_base != 0 && (options.port_base < 1024 || options.port_base > port_max)) {
    return absl::InvalidArgumentError(absl::StrCat("--port_base is ", options.port_base,
                                                   ", want 0 (free ports) or 1024..", port_max));
  }
  for (const auto& [key, value] : options.settings) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(key, absl::MaxSplits('.', 1));
    if (std::find(kServices.begin(), kServices.end(), parts.first) == kServices.end() ||
        parts.second.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--set has \"", key,
                                                     "\", want SERVICE.FLAG=VALUE with one of ",
                                                     absl::StrJoin(kServices, ", ")));
    }
  }
  return absl::OkStatus();
}

class Planner {
 public:
  explicit Planner(const PlanOptions& options) : options_(options) {}

  std::vector<ProcessSpec> Plan() {
    Add("store", "store", 1, {DataFolder("store")});
    Add("registry", "registry", 2, {DataFolder("registry"), "--store_address={store}", Token()});
    Add("scheduler", "scheduler", 0,
        {DataFolder("scheduler"), "--store_address={store}", "--registry_address={registry}",
         Token()});
    Add("inference", "inference", 3,
        {"--store_address={store}", "--registry_address={registry}", Token(), CacheFolder(),
         absl::StrCat("--threads=", options_.cores.size())});
    AddWorkers();
    return std::move(plan_);
  }

 private:
  std::string DataFolder(const std::string& service) const {
    return "--data_folder=" + options_.layout.DataFolder(service);
  }
  std::string CacheFolder() const { return "--cache_folder=" + options_.layout.CacheFolder(); }
  std::string Token() const { return "--token_file=" + options_.layout.PlatformTokenFile(); }
  std::string Address(int offset) const {
    return absl::StrCat("127.0.0.1:", options_.port_base == 0 ? 0 : options_.port_base + offset);
  }

  void AddWorkers() {
    const int count = static_cast<int>(options_.devices.size());
    const std::vector<std::vector<int>> shares = ShareCores(options_.cores, count);
    for (int i = 0; i < count; ++i) {
      const std::string& device = options_.devices[i];
      std::vector<std::string> arguments = {"--scheduler_address={scheduler}",
                                            "--store_address={store}",
                                            Token(),
                                            CacheFolder(),
                                            "--device=" + device,
                                            "--gang_address=127.0.0.1",
                                            absl::StrCat("--threads=", shares[i].size())};
      if (count > 1 || !options_.all_cores) {
        for (const int core : shares[i]) arguments.push_back(absl::StrCat("--cores=", core));
      }
      if (count > 1 && absl::StartsWith(device, "cpu:")) {
        arguments.push_back(absl::StrCat("--memory_bytes=", options_.memory_bytes / 4 * 3 / count));
      }
      Add("worker", "worker-" + absl::StrReplaceAll(device, {{":", "-"}}), kWorkerOffset + i,
          std::move(arguments));
    }
  }

  void Add(const std::string& service, const std::string& name, int port_offset,
           std::vector<std::string> arguments) {
    const bool is_worker = service == "worker";
    ProcessSpec spec;
    spec.name = name;
    spec.service = service;
    spec.address = Address(port_offset);
    spec.metrics_address = Address(port_offset + kMetricsOffset);
    spec.nice = is_worker ? kWorkerNice : 0;
    // Workers together, then the others one by one, the last to start first.
    spec.stop_rank = is_worker ? kWorkersMax : static_cast<int>(plan_.size());
    const absl::Duration deadline = is_worker ? kWorkerStopDeadline : kStopDeadline;
    spec.stop_timeout = deadline + kStopMargin;
    arguments.push_back("--tokens_file=" + options_.layout.TokensFile());
    arguments.push_back(absl::StrCat("--stop_deadline=", absl::FormatDuration(deadline)));
    for (const auto& [key, value] : options_.settings) {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(key, absl::MaxSplits('.', 1));
      if (parts.first == service) arguments.push_back(absl::StrCat("--", parts.second, "=", value));
    }
    spec.arguments = std::move(arguments);
    plan_.push_back(std::move(spec));
  }

  const PlanOptions& options_;
  std::vector<ProcessSpec> plan_;
};

}  // namespace

absl::StatusOr<std::vector<ProcessSpec>> MakePlan(const PlanOptions& options) {
  DW_RETURN_IF_ERROR(CheckOptions(options));
  return Planner(options).Plan();
}

std::vector<std::vector<int>> ShareCores(const std::vector<int>& cores, int shares) {
  std::vector<std::vector<int>> result(shares);
  const size_t count = cores.size();
  for (size_t i = 0; i < result.size(); ++i) {
    const size_t begin = i * count / shares;
    const size_t end = (i + 1) * count / shares;
    result[i].assign(cores.begin() + begin, cores.begin() + end);
    if (result[i].empty()) result[i].push_back(cores[i % count]);
  }
  return result;
}

std::string FillAddresses(const std::string& text,
                          const std::map<std::string, std::string>& addresses) {
  std::string filled = text;
  for (const auto& [name, address] : addresses) {
    filled = absl::StrReplaceAll(filled, {{absl::StrCat("{", name, "}"), address}});
  }
  return filled;
}

}  // namespace deltaworks::services
