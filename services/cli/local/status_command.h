// `dw status` tells how the platform of `dw up` is. See local_commands.h. One thread.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_STATUS_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_STATUS_COMMAND_H_

#include <string>
#include <vector>

#include "services/cli/command.h"

namespace deltaworks::services {

class StatusCommand final : public Command {
 public:
  std::string name() const override { return "status"; }
  std::string summary() const override { return "Show the platform's processes and their health"; }
  std::vector<std::string> examples() const override {
    return {"dw status", "dw status --output json"};
  }
  std::string details() const override {
    return "Exit code 0: every process answers; 5: nothing runs; 6: a part of it is down.";
  }
  void Declare(Arguments&) override {}
  absl::StatusOr<int> Run(CommandContext& context) override;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_STATUS_COMMAND_H_
