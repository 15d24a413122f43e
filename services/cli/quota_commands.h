// dw quota set, list: the share that each tenant has of the devices.

#ifndef DELTAWORKS_SERVICES_CLI_QUOTA_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_QUOTA_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddQuotaCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_QUOTA_COMMANDS_H_
