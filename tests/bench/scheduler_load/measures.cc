#include "tests/bench/scheduler_load/measures.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"
#include "tests/bench/scheduler_load/call_queue.h"
#include "trainer/base/file.h"

namespace deltaworks::bench {
namespace {

constexpr size_t kAppendBytes = 4096;

// utime and stime of a line of /proc/PID/stat.
double CpuSecondsOfStat(const std::string& stat) {
  // The name before it may hold anything, also spaces and brackets.
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(stat.rfind(')') + 2), ' ');
  int64_t user = 0;
  int64_t system = 0;
  CHECK(fields.size() > 12 && absl::SimpleAtoi(fields[11], &user) &&
        absl::SimpleAtoi(fields[12], &system))
      << stat;
  return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double ProcessCpuSeconds(pid_t pid) {
  const auto stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"), 4096);
  CHECK(stat.ok()) << stat.status();
  return CpuSecondsOfStat(*stat);
}

std::map<pid_t, double> ThreadCpuSeconds(pid_t pid) {
  std::map<pid_t, double> seconds;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/task"), error)) {
    pid_t thread = 0;
    const auto stat = ReadFile(entry.path().string() + "/stat", 4096);
    // One that ended meanwhile is left out.
    if (!stat.ok() || stat->empty() || !absl::SimpleAtoi(entry.path().filename().string(), &thread))
      continue;
    seconds[thread] = CpuSecondsOfStat(*stat);
  }
  return seconds;
}

double OwnCpuSeconds() {
  timespec time = {};
  PCHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

CpuMeter::CpuMeter(pid_t pid)
    : pid_(pid),
      began_at_(Monotonic()),
      scheduler_(ProcessCpuSeconds(pid)),
      threads_(ThreadCpuSeconds(pid)),
      own_(OwnCpuSeconds()) {}

CpuMeter::Cores CpuMeter::Read() const {
  Cores cores;
  cores.seconds = Monotonic() - began_at_;
  cores.scheduler = (ProcessCpuSeconds(pid_) - scheduler_) / cores.seconds;
  for (const auto& [thread, seconds] : ThreadCpuSeconds(pid_)) {
    const auto before = threads_.find(thread);
    const double spent = seconds - (before == threads_.end() ? 0 : before->second);
    cores.busiest_thread = std::max(cores.busiest_thread, spent / cores.seconds);
  }
  cores.load = (OwnCpuSeconds() - own_) / cores.seconds;
  return cores;
}

std::vector<double> MeasureFsync(const std::string& folder, absl::Duration duration) {
  const std::string path = folder + "/fsync_probe";
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
  PCHECK(fd >= 0) << path;
  const std::string bytes(kAppendBytes, 'x');
  std::vector<double> seconds;
  const double end = Monotonic() + absl::ToDoubleSeconds(duration);
  while (seconds.empty() || Monotonic() < end) {
    const double begin = Monotonic();
    PCHECK(write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size())) << path;
    PCHECK(fdatasync(fd) == 0) << path;
    seconds.push_back(Monotonic() - begin);
  }
  close(fd);
  std::filesystem::remove(path);
  return seconds;
}

bool IsInMemory(const std::string& folder) {
  struct statfs info;
  PCHECK(statfs(folder.c_str(), &info) == 0) << folder;
  return info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC;
}

}  // namespace deltaworks::bench
