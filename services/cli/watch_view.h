// WatchView: a job as `dw job watch` shows it. Takes the responses of a watch in order and says
// what to print: on a terminal one block, redrawn; elsewhere a line for what happened and one about
// every twentieth of the steps. Memory is bounded: of long runs the losses are averaged in pairs.
//
// Pure but for what it was given; not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_WATCH_VIEW_H_
#define DELTAWORKS_SERVICES_CLI_WATCH_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/cli/table.h"

namespace deltaworks::services {

// Green for SUCCEEDED, red for FAILED, and so on.
Paint PaintOf(v1::JobState state);

// The last losses of a run, as many as a sparkline can use.
class LossHistory {
 public:
  void Add(double loss);
  const std::vector<double>& values() const { return values_; }

 private:
  std::vector<double> values_;
  int64_t points_per_value_ = 1;
  double pending_sum_ = 0;
  int64_t pending_ = 0;
};

class WatchView {
 public:
  // `width`: columns of the terminal.
  WatchView(bool color, int64_t width) : color_(color), width_(width) {}

  // Lines (each with its newline) to print where there is no terminal.
  std::string Take(const v1::WatchJobResponse& response);

  // The block for a terminal, as of everything taken; a line of it never wraps.
  std::string Block() const;

  const v1::Job& job() const { return job_; }

 private:
  std::string ProgressLine(const v1::MetricPoint& point);
  std::string EventLine(const v1::JobEvent& event) const;
  std::string StepText(int64_t step) const;
  void AddNumbers(std::vector<std::string>& lines) const;

  const bool color_;
  const int64_t width_;
  v1::Job job_;
  LossHistory losses_;
  v1::MetricPoint last_point_;
  std::optional<double> first_eval_loss_, eval_loss_;
  std::string remark_;     // The last warning.
  int64_t next_step_ = 1;  // Of the next line.
  absl::Time next_time_ = absl::InfiniteFuture();
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_WATCH_VIEW_H_
