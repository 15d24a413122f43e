// ReadJobPage: jobs of a tenant in the order they were created, of the state and of the archive.
//
// A job is in one of the two as of any commit, and the place in the order does not tell in which,
// so a reader that goes on from page to page misses and repeats none that moves between them.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_JOB_PAGE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_JOB_PAGE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/scheduler/committed_view.h"
#include "services/scheduler/event_store.h"
#include "services/scheduler/job_filter.h"

namespace deltaworks::services {

// What follows `after`, or all.
struct JobPageQuery {
  std::string tenant;
  const JobFilter& filter;
  std::optional<JobKey> after;
  bool newest_first = true;
  int64_t count_max = 100;
};

struct JobPage {
  std::vector<std::shared_ptr<const scheduler::JobRecord>> jobs;
  // Go on after it; absent: there are no more.
  std::optional<JobKey> next;
};

// Jobs of the state, and archived ones, that one page looks at: a filter that few match makes short
// pages, not a long turn of the loop.
inline constexpr int64_t kStateLooksMax = 5'000;
inline constexpr int64_t kArchiveLooksMax = 1'000;

// Errors of the event store.
absl::StatusOr<JobPage> ReadJobPage(const CommittedView& view, const JobPageQuery& query);

// A key as part of a page or resume token.
std::string ToToken(const JobKey& key);
std::optional<JobKey> JobKeyOf(absl::string_view token);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_JOB_PAGE_H_
