// RestartPolicy: when a process that ended is started again.
//
// The first restart comes after delay_min; each further one waits twice as long, up to delay_max. A
// process that lived for steady_after begins anew with delay_min. Exit code 2 says that its
// settings are wrong (services/base/service_exit.h): starting it again would not help, so it stays
// down until a person comes.
//
// Pure state: no thread, no process, no clock; time is an argument. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_RESTART_POLICY_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_RESTART_POLICY_H_

#include <optional>

#include "absl/time/time.h"
#include "services/cli/local/process_exit.h"

namespace deltaworks::services {

class RestartPolicy {
 public:
  struct Options {
    absl::Duration delay_min = absl::Milliseconds(200);
    absl::Duration delay_max = absl::Seconds(10);
    absl::Duration steady_after = absl::Seconds(30);
  };

  explicit RestartPolicy(const Options& options)
      : options_(options), next_delay_(options.delay_min) {}

  void Started(absl::Duration now) { started_at_ = now; }

  // How long to wait before the next start; nullopt: do not start it again. Time is monotonic, and
  // Started() was called before.
  std::optional<absl::Duration> Ended(const ProcessExit& exit, absl::Duration now);

 private:
  const Options options_;
  absl::Duration started_at_;
  absl::Duration next_delay_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_RESTART_POLICY_H_
