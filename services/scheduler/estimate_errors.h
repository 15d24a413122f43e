// EstimateErrors: how far what was estimated is from what came, for the metrics.
//
// Device time is compared when a result comes; start and end as they were told last, when asked.
// Not stored: what was told before a restart is not compared. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_ESTIMATE_ERRORS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_ESTIMATE_ERRORS_H_

#include <cstddef>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "scheduler/event.pb.h"
#include "scheduler/state.h"
#include "services/scheduler/metrics.h"

namespace deltaworks::services {

class EstimateErrors {
 public:
  static constexpr size_t kToldMax = 10'000;  // Of further jobs nothing is compared.

  explicit EstimateErrors(SchedulerMetrics& metrics) : metrics_(metrics) {}

  // A QUEUED job was shown.
  void Told(const v1::Job& job, absl::Time now);
  void Committed(const scheduler::Event& event, const scheduler::State& state);

 private:
  struct Promise {
    absl::Time told;
    absl::Time start;
    absl::Time end = absl::InfiniteFuture();
  };

  void Observe(const char* estimate, absl::Duration came, absl::Duration told);

  SchedulerMetrics& metrics_;
  absl::flat_hash_map<std::string, Promise> told_;  // By job.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_ESTIMATE_ERRORS_H_
