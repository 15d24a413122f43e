// dw worker list, cordon, uncordon, drain.

#ifndef DELTAWORKS_SERVICES_CLI_WORKER_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_WORKER_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddWorkerCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_WORKER_COMMANDS_H_
