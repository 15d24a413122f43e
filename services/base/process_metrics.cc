#include "services/base/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace deltaworks::services {
namespace {

prometheus::MetricFamily Family(const std::string& name, const std::string& help,
                                prometheus::MetricType type, double value) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(metric);
  return family;
}

double CpuSeconds() {
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_utime) +
                               absl::DurationFromTimeval(usage.ru_stime));
}

// Pages of the whole process and of what lies in memory. False if unknown.
bool MemoryPages(int64_t& total, int64_t& resident) {
  FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return false;
  long long values[2] = {0, 0};
  const int count = std::fscanf(file, "%lld %lld", &values[0], &values[1]);
  std::fclose(file);
  total = values[0];
  resident = values[1];
  return count == 2;
}

int64_t OpenFds() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  int64_t count = -1;  // The folder's own descriptor.
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(folder);
  return count;
}

}  // namespace

ProcessMetrics::ProcessMetrics()
    : start_time_seconds_(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch())) {}

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  constexpr auto kCounter = prometheus::MetricType::Counter;
  constexpr auto kGauge = prometheus::MetricType::Gauge;
  std::vector<prometheus::MetricFamily> families;
  families.push_back(Family("process_cpu_seconds_total", "Processor time used, user and system.",
                            kCounter, CpuSeconds()));
  int64_t total = 0;
  int64_t resident = 0;
  if (MemoryPages(total, resident)) {
    const double page = static_cast<double>(sysconf(_SC_PAGESIZE));
    families.push_back(Family("process_virtual_memory_bytes", "Address space, mapped files too.",
                              kGauge, static_cast<double>(total) * page));
    families.push_back(Family("process_resident_memory_bytes", "Memory in use, mapped files too.",
                              kGauge, static_cast<double>(resident) * page));
  }
  if (const int64_t fds = OpenFds(); fds >= 0) {
    families.push_back(
        Family("process_open_fds", "Open file descriptors.", kGauge, static_cast<double>(fds)));
  }
  families.push_back(Family("process_start_time_seconds", "When the process began, Unix time.",
                            kGauge, start_time_seconds_));
  return families;
}

}  // namespace deltaworks::services
