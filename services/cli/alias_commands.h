// dw adapter alias set, list, delete, history.

#ifndef DELTAWORKS_SERVICES_CLI_ALIAS_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_ALIAS_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddAliasCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ALIAS_COMMANDS_H_
