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

class JobFilter {
 public:
  // InvalidArgument says which term, what was got and what is wanted. An empty text matches all.
  static absl::StatusOr<JobFilter> Parse(absl::string_view text);

  bool Matches(const v1::Job& job) const;

 private:
  struct Term {
    std::string field;
    std::string value;
  };
  static absl::Status CheckTerm(const Term& term);
  static bool Matches(const Term& term, const v1::Job& job);

  std::vector<Term> terms_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_JOB_FILTER_H_
