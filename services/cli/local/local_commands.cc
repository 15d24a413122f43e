#include "services/cli/local/local_commands.h"

#include <memory>

#include "services/cli/local/down_command.h"
#include "services/cli/local/status_command.h"
#include "services/cli/local/up_command.h"

namespace deltaworks::services {

void AddLocalCommands(CommandTable& table) {
  table.push_back(std::make_unique<UpCommand>());
  table.push_back(std::make_unique<DownCommand>());
  table.push_back(std::make_unique<StatusCommand>());
  table.push_back(std::make_unique<SuperviseCommand>());
}

}  // namespace deltaworks::services
