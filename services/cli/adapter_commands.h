// dw adapter list, get, download, merge.

#ifndef DELTAWORKS_SERVICES_CLI_ADAPTER_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_ADAPTER_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddAdapterCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ADAPTER_COMMANDS_H_
