// dw model import, list, get.

#ifndef DELTAWORKS_SERVICES_CLI_MODEL_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_MODEL_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddModelCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_MODEL_COMMANDS_H_
