#include "services/scheduler/job_lists.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "services/base/page_token.h"
#include "services/base/resource_names.h"
#include "services/scheduler/job_filter.h"
#include "services/scheduler/job_page.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

absl::Status BadToken() {
  return absl::InvalidArgumentError(
      "page_token is not one of this list, want the next_page_token of the page before");
}

absl::StatusOr<int64_t> ParseNumber(const std::string& cursor) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(cursor, &number) || number < 0) return BadToken();
  return number;
}

absl::StatusOr<bool> IsNewestFirst(const std::string& order_by) {
  if (order_by.empty() || order_by == "create_time desc") return true;
  if (order_by == "create_time" || order_by == "create_time asc") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("order_by is \"", order_by.substr(0, 200),
                   "\", want \"create_time desc\" or \"create_time\""));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const scheduler::JobRecord>> FindJob(const CommittedView& view,
                                                                    const std::string& name) {
  if (const scheduler::JobRecord* record = view.state.FindJob(name)) {
    return std::shared_ptr<const scheduler::JobRecord>(std::shared_ptr<void>(), record);
  }
  DW_ASSIGN_OR_RETURN(const std::optional<scheduler::ArchivedJob> archived,
                      view.store.FindArchived(name));
  if (!archived.has_value() || archived->record == nullptr) return NoSuchResource(name);
  return archived->record;
}

absl::StatusOr<v1::ListJobsResponse> ListJobs(const CommittedView& view,
                                              const v1::ListJobsRequest& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  DW_ASSIGN_OR_RETURN(const JobFilter filter, JobFilter::Parse(request.filter()));
  DW_ASSIGN_OR_RETURN(const bool newest_first, IsNewestFirst(request.order_by()));
  std::optional<JobKey> after;
  if (!page.cursor.empty()) {
    after = JobKeyOf(page.cursor);
    if (!after.has_value()) return BadToken();
  }
  DW_ASSIGN_OR_RETURN(JobPage jobs,
                      ReadJobPage(view, {.tenant = std::string(TenantOf(request.parent())),
                                         .filter = filter,
                                         .after = std::move(after),
                                         .newest_first = newest_first,
                                         .count_max = page.size}));
  scheduler::Explainer explainer = view.explainer();
  v1::ListJobsResponse response;
  int64_t bytes = 0;
  for (size_t i = 0; i < jobs.jobs.size(); ++i) {
    if (bytes >= kPageBytesMax) {
      jobs.next = JobKey::Of(*jobs.jobs[i - 1]);
      break;
    }
    *response.add_jobs() = explainer.Show(*jobs.jobs[i]);
    bytes += static_cast<int64_t>(response.jobs().rbegin()->ByteSizeLong());
  }
  if (jobs.next.has_value()) response.set_next_page_token(page.NextToken(ToToken(*jobs.next)));
  return response;
}

absl::Status CheckSince(const CommittedView& view, const scheduler::JobRecord& record,
                        int64_t since_seq, int64_t since_metric) {
  const v1::Job& job = record.job();
  DW_ASSIGN_OR_RETURN(const int64_t oldest, view.store.OldestEvent(job.name()));
  const int64_t newest = job.status().last_event_seq();
  if (since_seq < 0 || since_seq > newest || since_seq < oldest - 1) {
    return absl::OutOfRangeError(
        absl::StrCat("since_seq is ", since_seq, ", want ", std::max<int64_t>(oldest - 1, 0), "..",
                     newest, ": the oldest event kept of ", job.name(), " is ", oldest));
  }
  if (since_metric < 0 || since_metric > job.status().metric_count()) {
    return absl::OutOfRangeError(absl::StrCat("since_metric is ", since_metric, ", want 0..",
                                              job.status().metric_count(), ", the points of ",
                                              job.name()));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ListJobEventsResponse> ListJobEvents(const CommittedView& view,
                                                        const v1::ListJobEventsRequest& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  DW_ASSIGN_OR_RETURN(const std::shared_ptr<const scheduler::JobRecord> record,
                      FindJob(view, request.parent()));
  int64_t since = request.since_seq();
  if (!page.cursor.empty()) {
    DW_ASSIGN_OR_RETURN(since, ParseNumber(page.cursor));
  }
  DW_RETURN_IF_ERROR(CheckSince(view, *record, since, /*since_metric=*/0));
  DW_ASSIGN_OR_RETURN(std::vector<v1::JobEvent> events,
                      view.store.ReadEvents(request.parent(), since,
                                            {.count_max = page.size, .bytes_max = kPageBytesMax}));
  v1::ListJobEventsResponse response;
  for (v1::JobEvent& event : events) {
    since = event.seq();
    response.add_job_events()->Swap(&event);
  }
  if (since < record->job().status().last_event_seq()) {
    response.set_next_page_token(page.NextToken(absl::StrCat(since)));
  }
  return response;
}

absl::StatusOr<v1::ListJobMetricsResponse> ListJobMetrics(
    const CommittedView& view, const v1::ListJobMetricsRequest& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  DW_ASSIGN_OR_RETURN(const std::shared_ptr<const scheduler::JobRecord> record,
                      FindJob(view, request.parent()));
  if (request.step_min() < 0 || request.step_max() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("step_min is ", request.step_min(),
                                                   ", step_max is ", request.step_max(),
                                                   ", want both >= 0 (step_max 0: no end)"));
  }
  int64_t since = 0;
  if (!page.cursor.empty()) {
    DW_ASSIGN_OR_RETURN(since, ParseNumber(page.cursor));
  } else if (request.step_min() > 0) {
    DW_ASSIGN_OR_RETURN(since, view.store.IndexBeforeStep(request.parent(), request.step_min()));
  }
  DW_ASSIGN_OR_RETURN(std::vector<v1::MetricPoint> points,
                      view.store.ReadMetrics(request.parent(), since,
                                             {.count_max = page.size, .bytes_max = kPageBytesMax}));
  v1::ListJobMetricsResponse response;
  for (v1::MetricPoint& point : points) {
    if (request.step_max() > 0 && point.step() > request.step_max()) return response;
    ++since;
    response.add_metric_points()->Swap(&point);
  }
  if (since < record->job().status().metric_count()) {
    response.set_next_page_token(page.NextToken(absl::StrCat(since)));
  }
  return response;
}

absl::StatusOr<v1::ListWorkersResponse> ListWorkers(const CommittedView& view, const Caller& caller,
                                                    const v1::ListWorkersRequest& request) {
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  v1::ListWorkersResponse response;
  const auto& workers = view.fleet.workers();
  int64_t bytes = 0;
  for (auto it = workers.upper_bound(page.cursor); it != workers.end(); ++it) {
    if (response.workers_size() == page.size || bytes >= kPageBytesMax) {
      response.set_next_page_token(page.NextToken(response.workers().rbegin()->name()));
      break;
    }
    const scheduler::WorkerInfo& info = it->second;
    v1::Worker& worker = *response.add_workers();
    worker.set_name(info.name);
    worker.set_incarnation(info.incarnation);
    *worker.mutable_environment() = info.environment;
    worker.set_online(info.online);
    worker.set_draining(info.draining);
    worker.set_mode(view.state.WorkerMode(info.name));
    if (const auto mode = view.state.worker_modes().find(info.name);
        mode != view.state.worker_modes().end() && mode->second.has_until()) {
      *worker.mutable_quarantined_until() = mode->second.until();
    }
    if (const auto trouble = view.state.troubles().all().find(info.name);
        trouble != view.state.troubles().all().end()) {
      worker.set_incidents(trouble->second.incidents());
    }
    for (const v1::PassTime& time : info.pass_times) *worker.add_pass_times() = time;
    worker.set_last_report_age_seconds(absl::ToDoubleSeconds(view.now - info.last_seen));
    for (const std::string& job : view.state.JobsOn(info.name)) {
      worker.set_job_count(worker.job_count() + 1);
      if (caller.MayUse(scheduler::TenantOf(job))) worker.add_jobs(job);
    }
    bytes += static_cast<int64_t>(worker.ByteSizeLong());
  }
  return response;
}

}  // namespace deltaworks::services
