#include "services/base/machine.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"

namespace deltaworks::services {

absl::StatusOr<std::vector<int>> ParseCores(const std::vector<std::string>& texts) {
  std::vector<int> cores;
  for (const std::string& text : texts) {
    int core = 0;
    if (!absl::SimpleAtoi(text, &core) || core < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("cores has \"", text, "\", want numbers from 0"));
    }
    cores.push_back(core);
  }
  return cores;
}

int ThreadsFor(const std::vector<int>& cores) {
  if (!cores.empty()) return static_cast<int>(cores.size());
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

int64_t MemoryOfThisProcess() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  // Of control groups, version 2 and 1, as a container sees its own.
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const auto text = ReadFile(path, 4'096);
    int64_t limit = 0;
    if (text.ok() && absl::SimpleAtoi(*text, &limit) && limit > 0) bytes = std::min(bytes, limit);
  }
  return bytes;
}

}  // namespace deltaworks::services
