// `dw down` stops the platform of `dw up`. See local_commands.h. One thread.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_DOWN_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_DOWN_COMMAND_H_

#include <string>
#include <vector>

#include "services/cli/command.h"

namespace deltaworks::services {

class DownCommand final : public Command {
 public:
  std::string name() const override { return "down"; }
  std::string summary() const override { return "Stop the platform on this machine"; }
  std::vector<std::string> examples() const override {
    return {"dw down", "dw down --timeout 20s"};
  }
  std::string details() const override {
    return "Workers finish their step, take a checkpoint of every job and hand it back; the next "
           "`dw up` goes on from there. If nothing runs, it says so and succeeds.";
  }
  void Declare(Arguments& arguments) override;
  absl::StatusOr<int> Run(CommandContext& context) override;

 private:
  absl::Duration timeout_ = absl::Minutes(2);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_DOWN_COMMAND_H_
