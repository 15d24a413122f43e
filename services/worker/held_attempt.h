// HeldAttempt: what a worker knows of one attempt that it holds. Plain state of WorkerCore, which
// alone changes it; AppendReport() tells it to the scheduler.
//
//   trainer   kWorking -> kGone (left, stopped or failed)
//             kWorking -> kFinished (all steps done) -> kGone (its result is verified, or unwanted)
//   result    kUpload -> kReadBack -> kVerify -> kVerified; back to kUpload if the store lost bytes

#ifndef DELTAWORKS_SERVICES_WORKER_HELD_ATTEMPT_H_
#define DELTAWORKS_SERVICES_WORKER_HELD_ATTEMPT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/event_loop.h"
#include "services/worker/report_buffer.h"
#include "services/worker/seams.h"

namespace deltaworks::services {

enum class TrainerState { kWorking, kGone, kFinished };
enum class ResultStage { kUpload, kReadBack, kVerify, kVerified };

struct HeldAttempt {
  HeldAttempt(AttemptKey attempt_key, int64_t points_max, int64_t lines_max)
      : key(std::move(attempt_key)), metrics(points_max), logs(lines_max) {}

  const AttemptKey key;

  // The lease, on the monotonic clock.
  absl::Duration lease_end;
  EventLoop::TimerId lease_timer = 0;
  bool lease_lapsed = false;
  // Since when answers leave it out while it has no lease.
  std::optional<absl::Duration> unnamed_since;

  int32_t rank = 0;        // In its gang; rank 0 alone reports metrics.
  int64_t gang_steps = 0;  // All that its gang has to do; 0: it is alone.

  TrainerState trainer = TrainerState::kWorking;
  bool training = false;  // Past preparation.
  bool leaving = false;   // Told YIELD, or draining.
  bool stopping = false;  // Told STOP, or failed here.
  bool left = false;      // The phase LEFT may be said.
  std::optional<v1::Failure> failure;
  // Runs while it waits to be told what the end of its gang means: the scheduler knows more.
  EventLoop::TimerId gang_timer = 0;
  int64_t last_word_report = 0;  // Number of the first report that said LEFT or FAILED; 0: none.

  int64_t step = 0;
  double tokens_per_second = 0;
  absl::Duration device_time;
  ReportBuffer<v1::MetricPoint> metrics;
  ReportBuffer<v1::WorkerLog> logs;

  // Checkpoints. The timer runs while the job trains.
  absl::Duration checkpoint_interval;
  absl::Duration checkpoint_wait;  // Of the timer: what is left when it is armed.
  absl::Duration checkpoint_armed_at;
  EventLoop::TimerId checkpoint_timer = 0;
  std::shared_ptr<const Artifact> to_publish;
  std::optional<v1::CheckpointReport> published;
  int64_t committed_step = 0;

  // Something is on its way to the store, from there, or being verified; or a retry waits.
  bool busy = false;
  EventLoop::TimerId retry_timer = 0;
  absl::Duration retry_wait;

  std::optional<TrainedResult> result;
  ResultStage stage = ResultStage::kUpload;
  int corrupt_reads = 0;
  bool result_reported = false;  // Under a lease; may be repeated without one.
  bool result_accepted = false;  // False again while the store misses bytes of it.
};

// What may be said besides phase and step, and how much.
struct ReportLimits {
  bool content = false;  // Metrics, logs, checkpoint, result.
  bool lease_holds = false;
  int64_t bytes_max = 0;  // About; of metrics and logs.
};

// True if the report of `attempt` would have something for the scheduler to take in.
bool HasContent(const HeldAttempt& attempt, bool lease_holds);

// Appends the attempt's report to `request`. Returns about how many bytes of metrics and logs.
int64_t AppendReport(const HeldAttempt& attempt, const ReportLimits& limits,
                     v1::SyncRequest* request);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_HELD_ATTEMPT_H_
