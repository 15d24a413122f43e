#include "services/cli/watch_view.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "scheduler/job_state.h"
#include "services/cli/enum_text.h"
#include "services/cli/format.h"

namespace deltaworks::services {
namespace {

constexpr size_t kValuesMax = 4096;
constexpr int64_t kSparklineMax = 60;
constexpr int64_t kBarWidth = 30;
constexpr int64_t kLinesPerRun = 20;
constexpr absl::Duration kLineInterval = absl::Seconds(30);

std::string Speed(double tokens_per_second) {
  return absl::StrCat(CountText(std::lround(tokens_per_second)), " tokens/s");
}

}  // namespace

Paint PaintOf(v1::JobState state) {
  switch (state) {
    case v1::SUCCEEDED:
      return Paint::kGreen;
    case v1::FAILED:
      return Paint::kRed;
    case v1::CANCELLED:
    case v1::CANCELLING:
    case v1::PAUSED:
    case v1::PAUSING:
      return Paint::kYellow;
    case v1::RUNNING:
    case v1::FINALIZING:
      return Paint::kCyan;
    default:
      return Paint::kNone;
  }
}

void LossHistory::Add(double loss) {
  pending_sum_ += loss;
  if (++pending_ < points_per_value_) return;
  values_.push_back(pending_sum_ / static_cast<double>(pending_));
  pending_sum_ = 0;
  pending_ = 0;
  if (values_.size() < kValuesMax) return;
  for (size_t i = 0; i < kValuesMax / 2; ++i) {
    values_[i] = (values_[2 * i] + values_[2 * i + 1]) / 2;
  }
  values_.resize(kValuesMax / 2);
  points_per_value_ *= 2;
}

std::string WatchView::StepText(int64_t step) const {
  const int64_t total = job_.status().progress().total_steps();
  return total > 0 ? absl::StrCat(step, "/", total) : absl::StrCat(step);
}

std::string WatchView::Take(const v1::WatchJobResponse& response) {
  job_ = response.job();
  std::string lines;
  for (const v1::JobEvent& event : response.events()) {
    absl::StrAppend(&lines, EventLine(event));
    if (event.level() >= v1::JobEvent::WARNING) remark_ = event.message();
  }
  for (const v1::MetricPoint& point : response.metrics()) {
    absl::StrAppend(&lines, ProgressLine(point));
  }
  return lines;
}

std::string WatchView::EventLine(const v1::JobEvent& event) const {
  const std::string time =
      Painted(absl::FormatTime("%H:%M:%S", ToTime(event.time()), absl::LocalTimeZone()),
              Paint::kDim, color_);
  if (event.type() == v1::JobEvent::STATE_CHANGED || event.type() == v1::JobEvent::CREATED) {
    const std::string reason = event.reason() == v1::JOB_REASON_UNSPECIFIED
                                   ? ""
                                   : absl::StrCat(" (", EnumWords(event.reason()), ")");
    return absl::StrCat(time, " ", Painted(EnumText(event.state()), PaintOf(event.state()), color_),
                        reason, event.message().empty() ? "" : ": ", SafeText(event.message()),
                        "\n");
  }
  const Paint paint = event.level() >= v1::JobEvent::ERROR     ? Paint::kRed
                      : event.level() == v1::JobEvent::WARNING ? Paint::kYellow
                                                               : Paint::kNone;
  return absl::StrCat(time, " ", Painted(EnumWords(event.type()), paint, color_),
                      event.message().empty() ? "" : ": ", SafeText(event.message()), "\n");
}

std::string WatchView::ProgressLine(const v1::MetricPoint& point) {
  last_point_ = point;
  if (point.step() > 0) losses_.Add(point.loss());
  if (point.has_eval_loss()) {
    if (!first_eval_loss_) first_eval_loss_ = point.eval_loss();
    eval_loss_ = point.eval_loss();
  }
  const int64_t total = job_.status().progress().total_steps();
  const absl::Time time = ToTime(point.time());
  const bool due = point.step() >= next_step_ || point.step() == total || time >= next_time_;
  if (!due && !point.has_eval_loss()) return "";
  if (due) {
    next_step_ = point.step() + std::max<int64_t>(1, total / kLinesPerRun);
    if (point.has_time()) next_time_ = time + kLineInterval;
  }
  std::vector<std::string> parts = {absl::StrCat("step ", StepText(point.step()))};
  if (point.step() > 0) {
    parts.push_back(absl::StrCat("loss ", LossText(point.loss())));
    parts.push_back(absl::StrFormat("learning rate %.3g", point.learning_rate()));
    parts.push_back(Speed(point.tokens_per_second()));
  }
  if (point.has_eval_loss()) {
    parts.push_back(absl::StrCat("eval loss ", LossText(point.eval_loss())));
  }
  if (const double eta = job_.status().progress().eta_seconds(); eta > 0 && point.step() < total) {
    parts.push_back(absl::StrCat("ETA ", DurationText(absl::Seconds(eta))));
  }
  return absl::StrCat(absl::StrJoin(parts, "  "), "\n");
}

void WatchView::AddNumbers(std::vector<std::string>& lines) const {
  const v1::Progress& progress = job_.status().progress();
  const int64_t step = std::max(progress.step(), last_point_.step());
  if (step == 0 && !eval_loss_) return;
  const double share = progress.total_steps() > 0
                           ? static_cast<double>(step) / static_cast<double>(progress.total_steps())
                           : 0;
  std::vector<std::string> parts = {ProgressBar(share, std::min(kBarWidth, width_ / 3)),
                                    absl::StrFormat("%.0f %%", share * 100),
                                    absl::StrCat("step ", StepText(step))};
  if (progress.eta_seconds() > 0 && !scheduler::IsFinal(job_.status().state())) {
    parts.push_back(absl::StrCat("ETA ", DurationText(absl::Seconds(progress.eta_seconds()))));
  }
  lines.push_back(absl::StrJoin(parts, "  "));
  parts.clear();
  if (step > 0) parts.push_back(absl::StrCat("loss ", LossText(last_point_.loss())));
  if (eval_loss_) {
    const std::string before = *first_eval_loss_ != *eval_loss_
                                   ? absl::StrCat(" (", LossText(*first_eval_loss_), " before)")
                                   : "";
    parts.push_back(absl::StrCat("eval loss ", LossText(*eval_loss_), before));
  }
  if (last_point_.tokens_per_second() > 0) parts.push_back(Speed(last_point_.tokens_per_second()));
  if (last_point_.tokens() > 0) {
    parts.push_back(absl::StrCat(CountText(last_point_.tokens()), " tokens"));
  }
  if (!parts.empty()) lines.push_back(absl::StrJoin(parts, "  "));
  const std::string sparkline =
      Sparkline(losses_.values(), std::clamp<int64_t>(width_ - 10, 1, kSparklineMax));
  if (!sparkline.empty()) lines.push_back(absl::StrCat("loss  ", sparkline));
}

std::string WatchView::Block() const {
  const v1::JobStatus& status = job_.status();
  std::vector<std::string> lines;
  const std::string state = EnumText(status.state());
  const std::string reason = status.reason() == v1::JOB_REASON_UNSPECIFIED
                                 ? ""
                                 : absl::StrCat("  (", EnumWords(status.reason()), ")");
  const std::string head =
      CutToWidth(absl::StrCat(ShortName(job_.name()), "  ", state, reason), width_ - 1);
  std::string painted = head;
  if (const size_t at = head.find(state); at != std::string::npos) {
    painted.replace(at, state.size(), Painted(state, PaintOf(status.state()), color_));
  }
  if (status.state() == v1::QUEUED && status.has_waiting()) {
    lines.push_back(absl::StrCat("place ", status.waiting().queue_position(),
                                 " in the queue: ", status.waiting().message()));
  }
  AddNumbers(lines);
  if (status.has_failure()) {
    lines.push_back(absl::StrCat(status.failure().code(), ": ", status.failure().message()));
  } else if (!remark_.empty()) {
    lines.push_back(remark_);
  }
  std::string block = absl::StrCat(painted, "\n");
  for (std::string& line : lines) {
    line = SafeText(line);
    std::replace(line.begin(), line.end(), '\n', ' ');
    absl::StrAppend(&block, CutToWidth(line, width_ - 1), "\n");
  }
  return block;
}

}  // namespace deltaworks::services
