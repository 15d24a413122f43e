#include "tests/bench/scheduler_load/load_result.h"

#include <algorithm>

#include "glog/logging.h"
#include "trainer/base/file.h"

namespace deltaworks::bench {

LoadResult::LoadResult(const LoadOptions& options) : options_(options) {
  CHECK(MakeDirectories(options.scheduler.folder).ok()) << options.scheduler.folder;
  fsyncs_ = MeasureFsync(options.scheduler.folder, options.fsync_duration);
}

void LoadResult::Begin(const SchedulerUnderTest& scheduler) {
  before_ = scheduler.ReadCounts();
  meter_.emplace(scheduler.pid());
}

void LoadResult::End(const SchedulerUnderTest& scheduler) {
  cores_ = meter_->Read();
  after_ = scheduler.ReadCounts();
}

std::string LoadResult::Text(Json own) {
  for (double seconds : MeasureFsync(options_.scheduler.folder, options_.fsync_duration)) {
    fsyncs_.push_back(seconds);
  }
  const double commits = after_.commits - before_.commits;
  own["seconds"] = cores_.seconds;
  own["fsync_seconds"] = Mean(fsyncs_);
  own["fsync_p99_seconds"] = Quantile(fsyncs_, 0.99);
  own["fsyncs_per_second"] = 1 / Mean(fsyncs_);
  own["folder_in_memory"] = IsInMemory(options_.scheduler.folder);
  own["scheduler_cores"] = cores_.scheduler;
  own["scheduler_thread_cores"] = cores_.busiest_thread;
  own["load_cores"] = cores_.load;
  own["commits_per_second"] = commits / cores_.seconds;
  own["commit_seconds"] = (after_.commit_seconds - before_.commit_seconds) / std::max(commits, 1.0);
  own["events_per_second"] = (after_.events - before_.events) / cores_.seconds;
  own["snapshots"] = after_.snapshots - before_.snapshots;
  own["snapshot_share"] = (after_.snapshot_seconds - before_.snapshot_seconds) / cores_.seconds;
  return JsonText(own);
}

}  // namespace deltaworks::bench
