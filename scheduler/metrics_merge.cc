#include "scheduler/metrics_merge.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace deltaworks::scheduler {
namespace {

// By bits: a NaN equals itself.
bool SameBits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

std::string DescribeDifference(const v1::MetricPoint& before, const v1::MetricPoint& again) {
  const auto says = [&](absl::string_view name, double a, double b) {
    return absl::StrCat("step ", before.step(), " was repeated and its ", name, " is ",
                        absl::SixDigits(b), ", was ", absl::SixDigits(a), " (difference ",
                        absl::SixDigits(b - a), ")");
  };
  if (!SameBits(before.loss(), again.loss())) return says("loss", before.loss(), again.loss());
  if (!SameBits(before.learning_rate(), again.learning_rate())) {
    return says("learning_rate", before.learning_rate(), again.learning_rate());
  }
  if (!SameBits(before.grad_norm(), again.grad_norm())) {
    return says("grad_norm", before.grad_norm(), again.grad_norm());
  }
  if (before.tokens() != again.tokens()) {
    return says("tokens", static_cast<double>(before.tokens()),
                static_cast<double>(again.tokens()));
  }
  if (before.has_eval_loss() && again.has_eval_loss() &&
      !SameBits(before.eval_loss(), again.eval_loss())) {
    return says("eval_loss", before.eval_loss(), again.eval_loss());
  }
  return "";
}

}  // namespace

MergedMetrics MergeMetrics(const JobRecord& record, const v1::AttemptReport& report) {
  MergedMetrics merged;
  merged.acknowledged_n = record.current().metrics_acknowledged_n();
  int64_t steps_end = record.metric_steps_end();
  const int64_t step_max = record.job().status().progress().total_steps();
  int64_t n = report.first_metric_n();
  for (const v1::MetricPoint& point : report.metrics()) {
    const bool is_news = n > merged.acknowledged_n;
    merged.acknowledged_n = std::max(merged.acknowledged_n, n++);
    if (!is_news || point.step() < 0 || point.step() > step_max) continue;
    if (point.step() >= steps_end) {
      merged.points.push_back(point);
      steps_end = point.step() + 1;
      continue;
    }
    const auto& recent = record.recent_metrics();
    const auto before =
        std::lower_bound(recent.begin(), recent.end(), point.step(),
                         [](const v1::MetricPoint& p, int64_t step) { return p.step() < step; });
    if (before == recent.end() || before->step() != point.step()) continue;
    const std::string difference = DescribeDifference(*before, point);
    if (!difference.empty() && merged.difference.empty()) {
      merged.difference = difference;
      merged.difference_step = point.step();
    }
  }
  return merged;
}

}  // namespace deltaworks::scheduler
