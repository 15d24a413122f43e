// The plan of a platform on one machine: which processes, with which arguments, in which order.
//
//   store -> registry -> scheduler -> inference -> one worker for each device
//
// Pure: the options in, a list out; a test reads it literally. Ports are port_base and what follows
// (scheduler +0, store +1, registry +2, inference +3, worker i +9+i), /metrics 100 above; port_base
// 0 takes free ones. Every process says its ports in files, so an argument may hold "{store}": the
// address of a process that started earlier.
//
// Cores are shared out among the workers, each bound to its own; a single worker is bound to none.
// Inference uses the same cores: workers run at a lower priority (nice), so that an answer to a
// person comes before a training step, and have all the time that nobody asks for.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_PROCESS_PLAN_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_PROCESS_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/cli/local/platform_layout.h"

namespace deltaworks::services {

inline constexpr int kWorkersMax = 64;

// What `dw up` was told.
struct PlanOptions {
  PlatformLayout layout;
  std::vector<std::string> devices = {"cpu:0"};
  // Cores to share out, by number; at least one.
  std::vector<int> cores;
  // True: all that this process may run on, so a single worker need not be bound or counted.
  bool all_cores = true;
  // That this process may use; workers share three quarters of it.
  int64_t memory_bytes = 0;
  int64_t port_base = 7001;
  // Further arguments, by "SERVICE.FLAG" ("worker.lock_folder").
  std::map<std::string, std::string> settings;
};

struct ProcessSpec {
  std::string name;     // "store", "worker-cpu-0": in files, logs and tables.
  std::string service;  // Which program: "worker".
  std::string binary;   // Its path; filled in by who knows where programs are.
  std::vector<std::string> arguments;
  std::string address;  // Of gRPC, to listen on.
  std::string metrics_address;
  int nice = 0;
  // Processes of a higher rank are stopped before those of a lower one are told.
  int stop_rank = 0;
  // Until it is killed, after SIGTERM.
  absl::Duration stop_timeout;
};

// InvalidArgument: a device that is no "cpu:N" or "cuda:N" or comes twice, a port out of range, a
// setting of no service.
absl::StatusOr<std::vector<ProcessSpec>> MakePlan(const PlanOptions& options);

// Contiguous shares of `cores`, as equal as can be, each at least one core: with fewer cores than
// shares they are used several times.
std::vector<std::vector<int>> ShareCores(const std::vector<int>& cores, int shares);

// `text` with "{name}" replaced by addresses[name].
std::string FillAddresses(const std::string& text,
                          const std::map<std::string, std::string>& addresses);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_PROCESS_PLAN_H_
