// TimingFlags: when a job may run and for how long, as flags of `dw job submit` and `dw job
// update`.

#ifndef DELTAWORKS_SERVICES_CLI_TIMING_FLAGS_H_
#define DELTAWORKS_SERVICES_CLI_TIMING_FLAGS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "services/cli/arguments.h"

namespace deltaworks::services {

class TimingFlags {
 public:
  void Declare(Arguments& arguments);
  // False if none was given.
  bool any() const { return !start_after_.empty() || !deadline_.empty() || !time_limit_.empty(); }
  // Puts what was given over `timing`; "none" takes a field away. `now`: what "+2h" counts from.
  absl::Status Apply(absl::Time now, v1::Timing& timing) const;

 private:
  std::string start_after_, deadline_, time_limit_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_TIMING_FLAGS_H_
