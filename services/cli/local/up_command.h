// `dw up` starts a platform on this machine; `dw supervise` is what it starts. See
// local_commands.h. One thread.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_UP_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_UP_COMMAND_H_

#include <string>
#include <vector>

#include "services/cli/command.h"
#include "services/cli/local/up_options.h"

namespace deltaworks::services {

class UpCommand final : public Command {
 public:
  std::string name() const override { return "up"; }
  std::string summary() const override { return "Start the platform on this machine"; }
  std::vector<std::string> examples() const override;
  std::string details() const override;
  void Declare(Arguments& arguments) override;
  absl::StatusOr<int> Run(CommandContext& context) override;

 private:
  absl::StatusOr<int> RunInForeground(const PlatformLayout& layout, CommandContext& context);
  absl::StatusOr<int> RunInBackground(const PlatformLayout& layout, CommandContext& context);

  UpOptions options_;
  bool foreground_ = false;
};

// The supervisor of `dw up`, in the background. Its log is logs/supervisor.log.
class SuperviseCommand final : public Command {
 public:
  std::string name() const override { return "supervise"; }
  std::string summary() const override { return "Run the platform's supervisor; `dw up` does it"; }
  std::vector<std::string> examples() const override { return {"dw supervise --port_base 7001"}; }
  bool hidden() const override { return true; }
  void Declare(Arguments& arguments) override { options_.Declare(arguments); }
  absl::StatusOr<int> Run(CommandContext& context) override;

 private:
  UpOptions options_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_UP_COMMAND_H_
