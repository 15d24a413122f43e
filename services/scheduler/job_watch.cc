// The watch of one job: everything after (seq, metric index), then what is committed, to the end.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
#include "services/scheduler/job_lists.h"
#include "services/scheduler/watch.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// Together they stay well within a message of 4 MiB.
constexpr ReadLimits kEventLimits = {.count_max = 1000, .bytes_max = 1 << 20};
constexpr ReadLimits kMetricLimits = {.count_max = 1000, .bytes_max = 1 << 20};

class JobWatch final : public Watch {
 public:
  JobWatch(const v1::WatchJobRequest& request, int64_t lag_max, std::unique_ptr<JobSink> sink)
      : name_(request.name()),
        seq_(request.since_seq()),
        metric_(request.since_metric()),
        lag_max_(lag_max),
        sink_(std::move(sink)) {}

  Pumped Pump(const CommittedView& view, const JobChanges&) override {
    absl::StatusOr<Pumped> pumped = TryPump(view);
    if (pumped.ok()) return *pumped;
    End(pumped.status());
    return Pumped::kEnded;
  }

  bool IsTooFarBehind(const CommittedView& view) const override {
    const scheduler::JobRecord* record = view.state.FindJob(name_);
    return caught_up_once_ && record != nullptr && Behind(*record) > lag_max_;
  }

  void End(absl::Status status) override { sink_->End(std::move(status)); }
  bool Concerns(const std::string& job) const override { return job == name_; }

 private:
  int64_t Behind(const scheduler::JobRecord& record) const {
    const v1::JobStatus& status = record.job().status();
    return status.last_event_seq() - seq_ + status.metric_count() - metric_;
  }

  absl::StatusOr<Pumped> TryPump(const CommittedView& view) {
    DW_ASSIGN_OR_RETURN(const std::shared_ptr<const scheduler::JobRecord> record,
                        FindJob(view, name_));
    const v1::JobStatus& status = record->job().status();
    const bool is_final = scheduler::IsFinal(status.state());
    const absl::Time changed_at = scheduler::FromProto(record->job().update_time());
    const bool is_behind = Behind(*record) > 0;
    if (begun_ && !is_behind) {
      caught_up_once_ = true;
      if (is_final && sent_final_) {
        End(absl::OkStatus());
        return Pumped::kEnded;
      }
      if (changed_at == shown_at_) return Pumped::kIdle;
    } else {
      // At the beginning, and if it slept through what is no longer kept.
      DW_RETURN_IF_ERROR(CheckSince(view, *record, seq_, metric_));
    }
    v1::WatchJobResponse response;
    std::vector<v1::JobEvent> events;
    if (status.last_event_seq() > seq_) {
      DW_ASSIGN_OR_RETURN(events, view.store.ReadEvents(name_, seq_, kEventLimits));
    }
    for (v1::JobEvent& event : events) {
      seq_ = event.seq();
      response.add_events()->Swap(&event);
    }
    std::vector<v1::MetricPoint> points;
    if (status.metric_count() > metric_) {
      DW_ASSIGN_OR_RETURN(points, view.store.ReadMetrics(name_, metric_, kMetricLimits));
    }
    if (!points.empty()) response.set_first_metric(metric_ + 1);
    metric_ += static_cast<int64_t>(points.size());
    for (v1::MetricPoint& point : points) response.add_metrics()->Swap(&point);
    if (is_behind && events.empty() && points.empty()) {
      return absl::DataLossError(absl::StrCat(name_, ": events after ", seq_, " or points after ",
                                              metric_, " are gone, want all that were counted"));
    }
    *response.mutable_job() = view.Show(*record);
    begun_ = true;
    shown_at_ = changed_at;
    sent_final_ = is_final;
    sink_->Send(std::move(response));
    return Pumped::kSent;
  }

  const std::string name_;
  int64_t seq_;
  int64_t metric_;
  const int64_t lag_max_;
  const std::unique_ptr<JobSink> sink_;
  bool begun_ = false;
  bool caught_up_once_ = false;
  bool sent_final_ = false;
  absl::Time shown_at_;  // Update time of the job as it was sent last.
};

}  // namespace

std::unique_ptr<Watch> MakeJobWatch(const v1::WatchJobRequest& request, int64_t lag_max,
                                    std::unique_ptr<JobSink> sink) {
  return std::make_unique<JobWatch>(request, lag_max, std::move(sink));
}

}  // namespace deltaworks::services
