// dw job submit, list, get, watch, logs, cancel, pause, resume.

#ifndef DELTAWORKS_SERVICES_CLI_JOB_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_JOB_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddJobCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_JOB_COMMANDS_H_
