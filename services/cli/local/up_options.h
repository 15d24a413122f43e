// UpOptions: what `dw up` can be told; `dw supervise` gets the same from it. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_UP_OPTIONS_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_UP_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/cli/arguments.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/process_plan.h"

namespace deltaworks::services {

struct UpOptions {
  std::vector<std::string> train;  // Empty: cpu:0.
  int64_t threads = 0;             // 0: every core that this process may run on.
  int64_t port_base = 7001;
  std::string bin_folder;
  std::map<std::string, std::string> settings;
  absl::Duration start_timeout = absl::Seconds(60);

  void Declare(Arguments& arguments);
  // Words that Declare()d arguments would parse to this.
  std::vector<std::string> Words() const;
};

// The layout of `home`, made absolute. InvalidArgument if it is empty.
absl::StatusOr<PlatformLayout> LayoutOf(const std::string& home);

// The plan for this machine, with the path of each program.
//   InvalidArgument   an option, as got and wanted
//   NotFound          a program is nowhere
absl::StatusOr<std::vector<ProcessSpec>> PlanForThisMachine(const UpOptions& options,
                                                            const PlatformLayout& layout);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_UP_OPTIONS_H_
