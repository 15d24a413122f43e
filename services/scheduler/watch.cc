#include "services/scheduler/watch.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaworks::services {

void JobChanges::Changed(const std::string& job, int64_t position) {
  int64_t& last = positions_[job];
  by_position_.erase(last);
  by_position_[position] = job;
  last = position;
  if (static_cast<int64_t>(by_position_.size()) <= jobs_max_) return;
  const auto oldest = by_position_.begin();
  begin_ = oldest->first;
  positions_.erase(oldest->second);
  by_position_.erase(oldest);
}

Watches::Watches(const Options& options, std::string epoch, SchedulerMetrics& metrics)
    : options_(options), metrics_(metrics), changes_(std::move(epoch), options.changes_max) {}

void Watches::WatchJob(int64_t id, const v1::WatchJobRequest& request,
                       std::unique_ptr<JobSink> sink) {
  Add(id, MakeJobWatch(request, options_.lag_max, std::move(sink)));
}

void Watches::WatchJobs(int64_t id, const v1::WatchJobsRequest& request,
                        std::unique_ptr<JobListSink> sink) {
  Add(id, MakeJobListWatch(request, std::move(sink)));
}

void Watches::Add(int64_t id, std::unique_ptr<Watch> watch) {
  if (!ended_.ok()) return watch->End(ended_);
  if (size() >= options_.watches_max) {
    metrics_.Refused("watches").Increment();
    return watch->End(absl::ResourceExhaustedError(
        absl::StrCat(size(), " watches are open, want fewer than ", options_.watches_max)));
  }
  open_[id].watch = std::move(watch);
  ready_.insert(id);
  metrics_.watches.Set(static_cast<double>(size()));
}

void Watches::Remove(int64_t id) {
  open_.erase(id);
  ready_.erase(id);
  metrics_.watches.Set(static_cast<double>(size()));
}

void Watches::Taken(int64_t id) {
  const auto found = open_.find(id);
  if (found == open_.end()) return;
  found->second.in_flight = false;
  ready_.insert(id);
}

void Watches::Drop(int64_t id) {
  const auto found = open_.find(id);
  if (found == open_.end()) return;
  found->second.watch->End(absl::CancelledError("the watcher left"));
  Remove(id);
}

void Watches::Changed(const std::string& job, int64_t position) {
  changes_.Changed(job, position);
  for (const auto& [id, open] : open_) {
    if (open.watch->Concerns(job)) ready_.insert(id);
  }
}

void Watches::Pump(const CommittedView& view) {
  for (const int64_t id : std::exchange(ready_, {})) {
    Open& open = open_.at(id);
    if (open.in_flight) {
      if (!open.watch->IsTooFarBehind(view)) continue;
      metrics_.watches_cut_off.Increment();
      open.watch->End(absl::ResourceExhaustedError(
          absl::StrCat("the watcher fell more than ", options_.lag_max,
                       " events and points behind, want a faster one; reconnect with the last "
                       "numbers seen")));
      Remove(id);
      continue;
    }
    switch (open.watch->Pump(view, changes_)) {
      case Watch::Pumped::kIdle:
        break;
      case Watch::Pumped::kSent:
        open.in_flight = true;
        break;
      case Watch::Pumped::kEnded:
        Remove(id);
        break;
    }
  }
}

void Watches::EndAll(const absl::Status& status) {
  ended_ = status;
  for (auto& [id, open] : open_) open.watch->End(status);
  open_.clear();
  ready_.clear();
  metrics_.watches.Set(0);
}

}  // namespace deltaworks::services
