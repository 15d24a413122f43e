// The watch of a list: every job that matches, oldest first, then what changes, in commit order.
//
// A resume token is (epoch, position, key): changes up to the position are dealt with, and so are
// the jobs up to the key while the first listing goes on (it is empty once that is complete).
// Positions mean something to the process that counted them only, and only as far back as it keeps
// changes, so an older token is OUT_OF_RANGE.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "services/base/resource_names.h"
#include "services/scheduler/job_filter.h"
#include "services/scheduler/job_lists.h"
#include "services/scheduler/job_page.h"
#include "services/scheduler/watch.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kJobsMax = 1000;
constexpr absl::string_view kSeparator = "|";

class JobListWatch final : public Watch {
 public:
  JobListWatch(const v1::WatchJobsRequest& request, std::unique_ptr<JobListSink> sink)
      : request_(request),
        prefix_(absl::StrCat(request.parent(), "/jobs/")),
        sink_(std::move(sink)) {}

  Pumped Pump(const CommittedView& view, const JobChanges& changes) override {
    if (!begun_) {
      const absl::Status status = Begin(view, changes);
      if (!status.ok()) {
        End(status);
        return Pumped::kEnded;
      }
      begun_ = true;
    }
    v1::WatchJobsResponse response;
    const bool was_listing = listing_;
    const absl::Status status = listing_ ? List(view, &response) : Follow(view, changes, &response);
    if (!status.ok()) {
      End(status);
      return Pumped::kEnded;
    }
    if (!was_listing && response.jobs().empty() && response.deleted().empty() && told_synced_) {
      return Pumped::kIdle;
    }
    response.set_synced(!listing_);
    told_synced_ = !listing_;
    response.set_resume_token(MakeToken(changes));
    sink_->Send(std::move(response));
    return Pumped::kSent;
  }

  // Its backlog is the jobs that changed, each once: it cannot overflow.
  bool IsTooFarBehind(const CommittedView&) const override { return false; }
  void End(absl::Status status) override { sink_->End(std::move(status)); }
  bool Concerns(const std::string& job) const override { return absl::StartsWith(job, prefix_); }

 private:
  absl::Status Begin(const CommittedView& view, const JobChanges& changes) {
    DW_ASSIGN_OR_RETURN(filter_, JobFilter::Parse(request_.filter()));
    position_ = view.state.event_count();
    listing_ = true;
    if (request_.resume_token().empty()) return absl::OkStatus();
    std::string token;
    absl::WebSafeBase64Unescape(request_.resume_token(), &token);
    const std::vector<std::string> parts = absl::StrSplit(token, kSeparator);
    int64_t position = 0;
    if (parts.size() != 3 || parts[0] != changes.epoch() ||
        !absl::SimpleAtoi(parts[1], &position) || position < changes.begin() ||
        position > position_) {
      return absl::OutOfRangeError(
          "resume_token is older than what this scheduler process keeps, want none: begin with "
          "everything");
    }
    position_ = position;
    listed_ = JobKeyOf(parts[2]);
    listing_ = listed_.has_value();
    resumed_ = true;
    return absl::OkStatus();
  }

  std::string MakeToken(const JobChanges& changes) const {
    const std::string listed = listing_ && listed_.has_value() ? ToToken(*listed_) : std::string();
    return absl::WebSafeBase64Escape(
        absl::StrCat(changes.epoch(), kSeparator, position_, kSeparator, listed));
  }

  bool IsFull(const v1::WatchJobsResponse& response) const {
    return response.jobs_size() + response.deleted_size() >= kJobsMax || bytes_ >= kPageBytesMax;
  }

  void Add(scheduler::Explainer& explainer, const scheduler::JobRecord& record,
           v1::WatchJobsResponse* response) {
    *response->add_jobs() = explainer.Show(record);
    bytes_ += static_cast<int64_t>(response->jobs().rbegin()->ByteSizeLong());
  }

  absl::Status List(const CommittedView& view, v1::WatchJobsResponse* response) {
    bytes_ = 0;
    scheduler::Explainer explainer = view.explainer();
    DW_ASSIGN_OR_RETURN(const JobPage page,
                        ReadJobPage(view, {.tenant = std::string(TenantOf(request_.parent())),
                                           .filter = filter_,
                                           .after = listed_,
                                           .newest_first = false,
                                           .count_max = kJobsMax}));
    listed_ = page.next;
    for (size_t i = 0; i < page.jobs.size(); ++i) {
      if (IsFull(*response)) {
        listed_ = JobKey::Of(*page.jobs[i - 1]);
        break;
      }
      const scheduler::JobRecord& record = *page.jobs[i];
      // One that ended matches for ever.
      if (!scheduler::IsFinal(scheduler::StateOf(record))) matched_.insert(record.job().name());
      Add(explainer, record, response);
    }
    listing_ = listed_.has_value();
    return absl::OkStatus();
  }

  absl::Status Follow(const CommittedView& view, const JobChanges& changes,
                      v1::WatchJobsResponse* response) {
    if (position_ < changes.begin()) {
      return absl::ResourceExhaustedError(
          "the watcher fell too far behind, want a faster one: begin with everything");
    }
    bytes_ = 0;
    scheduler::Explainer explainer = view.explainer();
    const auto& by_position = changes.by_position();
    for (auto it = by_position.upper_bound(position_); it != by_position.end(); ++it) {
      if (IsFull(*response)) return absl::OkStatus();
      const std::string& name = it->second;
      if (Concerns(name)) DW_RETURN_IF_ERROR(AddChanged(view, name, explainer, response));
      position_ = it->first;
    }
    return absl::OkStatus();
  }

  absl::Status AddChanged(const CommittedView& view, const std::string& name,
                          scheduler::Explainer& explainer, v1::WatchJobsResponse* response) {
    const auto record = FindJob(view, name);
    if (absl::IsNotFound(record.status())) {
      matched_.erase(name);
      response->add_deleted(name);
      return absl::OkStatus();
    }
    DW_RETURN_IF_ERROR(record.status());
    if (filter_.Matches((*record)->job())) {
      matched_.insert(name);
      Add(explainer, **record, response);
    } else if (matched_.erase(name) > 0 || (resumed_ && left_.insert(name).second)) {
      // Once more, because it stopped matching; after a resume, perhaps.
      Add(explainer, **record, response);
    }
    return absl::OkStatus();
  }

  const v1::WatchJobsRequest request_;
  const std::string prefix_;
  const std::unique_ptr<JobListSink> sink_;
  JobFilter filter_;
  bool begun_ = false;
  bool listing_ = true;
  bool told_synced_ = false;
  bool resumed_ = false;
  int64_t position_ = 0;
  std::optional<JobKey> listed_;
  int64_t bytes_ = 0;
  absl::btree_set<std::string> matched_;
  // After a resume: those that were sent although they do not match.
  absl::btree_set<std::string> left_;
};

}  // namespace

std::unique_ptr<Watch> MakeJobListWatch(const v1::WatchJobsRequest& request,
                                        std::unique_ptr<JobListSink> sink) {
  return std::make_unique<JobListWatch>(request, std::move(sink));
}

}  // namespace deltaworks::services
