#include "services/cli/local/up_options.h"

#include <sched.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "services/base/machine.h"
#include "services/cli/client_file.h"
#include "services/cli/local/service_binaries.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

std::vector<int> CoresOfThisProcess() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

}  // namespace

void UpOptions::Declare(Arguments& arguments) {
  arguments
      .Flag("train", &train,
            "devices to train on, cpu:N or cuda:N, one worker each (default cpu:0)")
      .ValueName("DEVICE,...");
  arguments.Flag("threads", &threads,
                 "cores that workers share and inference may use (default: all of this process)");
  arguments
      .Flag("port_base", &port_base,
            "ports are this and the next ones, /metrics 100 above (default 7001); 0: free ones")
      .ValueName("PORT");
  arguments.Flag("bin_folder", &bin_folder, "where the services' programs are (default: found)")
      .ValueName("FOLDER")
      .Kind(ValueKind::kFolder);
  arguments
      .Flag("set", &settings,
            "a further flag of a service: scheduler.lease_duration=20s; repeat it")
      .ValueName("SERVICE.FLAG=VALUE,...");
  arguments.Flag("start_timeout", &start_timeout,
                 "time that each process gets to answer (default 60s)");
}

std::vector<std::string> UpOptions::Words() const {
  std::vector<std::string> words;
  for (const std::string& device : train) words.push_back("--train=" + device);
  words.push_back(absl::StrCat("--threads=", threads));
  words.push_back(absl::StrCat("--port_base=", port_base));
  if (!bin_folder.empty()) words.push_back("--bin_folder=" + bin_folder);
  for (const auto& [key, value] : settings)
    words.push_back(absl::StrCat("--set=", key, "=", value));
  words.push_back("--start_timeout=" + absl::FormatDuration(start_timeout));
  return words;
}

absl::StatusOr<PlatformLayout> LayoutOf(const std::string& home) {
  DW_RETURN_IF_ERROR(CheckHome(home));
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(home, error).lexically_normal();
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("--home is ", home, ": ", error.message()));
  }
  std::string text = path.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return PlatformLayout{text};
}

absl::StatusOr<std::vector<ProcessSpec>> PlanForThisMachine(const UpOptions& options,
                                                            const PlatformLayout& layout) {
  PlanOptions plan;
  plan.layout = layout;
  if (!options.train.empty()) plan.devices = options.train;
  plan.cores = CoresOfThisProcess();
  const int64_t count = static_cast<int64_t>(plan.cores.size());
  if (options.threads < 0 || options.threads > count) {
    return absl::InvalidArgumentError(absl::StrCat("--threads is ", options.threads, ", want 1..",
                                                   count, ", the cores of this process"));
  }
  if (options.threads > 0) plan.cores.resize(static_cast<size_t>(options.threads));
  plan.all_cores = static_cast<int64_t>(plan.cores.size()) == count;
  plan.memory_bytes = MemoryOfThisProcess();
  plan.port_base = options.port_base;
  plan.settings = options.settings;
  DW_ASSIGN_OR_RETURN(std::vector<ProcessSpec> specs, MakePlan(plan));
  DW_ASSIGN_OR_RETURN(const std::string own, OwnBinary());
  for (ProcessSpec& spec : specs) {
    DW_ASSIGN_OR_RETURN(spec.binary, FindServiceBinary(spec.service, options.bin_folder, own));
  }
  return specs;
}

}  // namespace deltaworks::services
