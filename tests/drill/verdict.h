// What must be true of a platform after a drill, once every process answers again.

#ifndef DELTAWORKS_TESTS_DRILL_VERDICT_H_
#define DELTAWORKS_TESTS_DRILL_VERDICT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/drill/customer.h"
#include "tests/drill/drill_jobs.h"
#include "tests/e2e/platform.h"

namespace deltaworks::drill {

// How much the jobs met.
struct Tally {
  int64_t interrupted = 0;  // Jobs with more than one attempt.
  int64_t attempts = 0;
  int64_t from_checkpoints = 0;  // Attempts that began at one.
};

// A line for each thing that is not so; empty: all is well.
//   jobs       those accepted are there and SUCCEEDED, and no other is
//   versions   one of each, READY, of the job's result; no adapter without a job
//   bytes      every file of a version has the digest of the undisturbed run's
//   history    the metrics of every step of a job once, in order; no alert
std::vector<std::string> WhatBroke(e2e::Platform& platform, const References& references,
                                   const std::vector<std::string>& tenants,
                                   const std::vector<AcceptedJob>& accepted, Tally& tally);

// Lines of the processes' logs that no fault excuses: failed CHECKs, aborts, sanitizers.
std::vector<std::string> FatalLines(e2e::Platform& platform);

}  // namespace deltaworks::drill

#endif  // DELTAWORKS_TESTS_DRILL_VERDICT_H_
