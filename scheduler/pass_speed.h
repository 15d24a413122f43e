// PassSpeed: how long training takes, from what the workers measured.
//
// A pass over T tokens of a base takes about fixed + T * by_token seconds (worker_service.proto,
// PassTime). Where nobody has trained a base yet, its FLOPs over a rate that is assumed for the
// kind of device stand in, wrong by up to a few times. Plain data and pure functions.

#ifndef DELTAWORKS_SCHEDULER_PASS_SPEED_H_
#define DELTAWORKS_SCHEDULER_PASS_SPEED_H_

#include <map>
#include <string>
#include <tuple>

#include "absl/time/time.h"
#include "scheduler/fleet.h"
#include "scheduler/job_shape.h"
#include "scheduler/work.h"

namespace deltaworks::scheduler {

struct PassSpeed {
  double fixed_seconds = 0;
  double seconds_per_token = 0;
  bool measured = false;

  // Alone on the device.
  double Seconds(const Work& work) const {
    return static_cast<double>(work.passes) * fixed_seconds +
           static_cast<double>(work.tokens) * seconds_per_token;
  }
};

// The worker's overhead of a pass in tokens (worker_load.h): as it measured on this base, else that
// of its kind of device.
double OverheadTokens(const JobShape& shape, const WorkerInfo& worker);

// Of one worker; `work` is the job's, for its FLOPs by token.
PassSpeed SpeedOf(const JobShape& shape, const Work& work, const WorkerInfo& worker);

// The mean over the workers of a kind, so that a question does not ask all of them.
class Speeds {
 public:
  // Looks at all workers that are online, at most once in ten seconds.
  void Update(const Fleet& fleet, absl::Time now);

  // On devices of shape.device_kind, or of all kinds if it is empty.
  PassSpeed Of(const JobShape& shape, const Work& work) const;

 private:
  struct Mean {
    double fixed_seconds = 0;
    double seconds_per_token = 0;
    int count = 0;
  };
  // Device kind ("": all), base, compute type.
  using Key = std::tuple<std::string, std::string, v1::NumberType>;

  absl::Time next_update_ = absl::InfinitePast();
  std::map<Key, Mean> means_;
  bool has_gpu_ = false;
  bool has_cpu_ = false;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PASS_SPEED_H_
