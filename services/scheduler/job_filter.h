// JobFilter: the filter of ListJobs and WatchJobs: `field = value` terms joined by AND; fields and
// quoting as in training_service.proto. Pure, immutable.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_JOB_FILTER_H_
#define DELTAWORKS_SERVICES_SCHEDULER_JOB_FILTER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/job.pb.h"

namespace deltaworks::services {

struct JobTerm {
  std::string field;
  std::string value;
};

// All that a term of a filter may ask of `job`, but for its class, and the empty term.
std::vector<JobTerm> JobTerms(const v1::Job& job);

class JobFilter {
 public:
  // InvalidArgument says which term, what was got and what is wanted. An empty text matches all.
  static absl::StatusOr<JobFilter> Parse(absl::string_view text);

  bool Matches(const v1::Job& job) const;
  // False if no job that ended can match.
  bool MayMatchEnded() const;
  // One of JobTerms that whatever matches has, the one that few jobs should have; empty if it asks
  // for none.
  JobTerm MostSelective() const;

 private:
  static absl::Status CheckTerm(const JobTerm& term);
  static bool Matches(const JobTerm& term, const v1::Job& job);

  std::vector<JobTerm> terms_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_JOB_FILTER_H_
