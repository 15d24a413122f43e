// dw token add, version.

#ifndef DELTAWORKS_SERVICES_CLI_PLATFORM_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_PLATFORM_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddPlatformCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_PLATFORM_COMMANDS_H_
