// What measurements are made of: quantiles, the processor time of a process and of its busiest
// thread, and how fast the disk makes a small write durable. Plain functions and values.

#ifndef DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_MEASURES_H_
#define DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_MEASURES_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace deltaworks::bench {

// The smallest value that at least `share` of them do not pass; 0 of none.
double Quantile(std::vector<double> values, double share);
double Mean(const std::vector<double>& values);

// Processor time of the scheduler and of this process from its construction on. The scheduler's is
// from /proc, granular to a clock tick (10 ms).
class CpuMeter {
 public:
  explicit CpuMeter(pid_t pid);

  struct Cores {
    double seconds = 0;  // Measured over.
    double scheduler = 0;
    double busiest_thread = 0;  // Of the scheduler.
    double load = 0;            // This process, with the store in it.
  };
  Cores Read() const;

 private:
  const pid_t pid_;
  const double began_at_;
  const double scheduler_;
  const std::map<pid_t, double> threads_;
  const double own_;
};

// Seconds that each append of 4 KiB with its fdatasync took, for `duration`, in a file of its own
// in `folder`.
std::vector<double> MeasureFsync(const std::string& folder, absl::Duration duration);
// Whether `folder` is memory, where fdatasync costs nothing.
bool IsInMemory(const std::string& folder);

}  // namespace deltaworks::bench

#endif  // DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_MEASURES_H_
