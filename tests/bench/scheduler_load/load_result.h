// LoadResult: what every measurement reports besides its own numbers: the disk alone, and what the
// scheduler did and cost meanwhile. Include it in sources only. Thread-compatible.

#ifndef DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_LOAD_RESULT_H_
#define DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_LOAD_RESULT_H_

#include <optional>
#include <string>
#include <vector>

#include "tests/bench/scheduler_load/loads.h"
#include "tests/bench/scheduler_load/measures.h"
#include "tests/bench/scheduler_load/scheduler_under_test.h"
#include "trainer/base/json.h"

namespace deltaworks::bench {

class LoadResult {
 public:
  // Measures the disk; to be made before the scheduler is started.
  explicit LoadResult(const LoadOptions& options);

  // The window that counts.
  void Begin(const SchedulerUnderTest& scheduler);
  void End(const SchedulerUnderTest& scheduler);
  double seconds() const { return cores_.seconds; }

  // `own` and the common fields, on one line. Measures the disk again: the scheduler should be
  // gone.
  std::string Text(Json own);

 private:
  const LoadOptions options_;
  std::vector<double> fsyncs_;
  std::optional<CpuMeter> meter_;
  CpuMeter::Cores cores_;
  SchedulerUnderTest::Counts before_;
  SchedulerUnderTest::Counts after_;
};

}  // namespace deltaworks::bench

#endif  // DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_LOAD_RESULT_H_
