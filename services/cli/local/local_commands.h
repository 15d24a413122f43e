// The commands of a platform on this machine: up, down, status, and the hidden supervise.
//
// What they return when nothing is up: `dw down` says so and returns kExitOk; `dw status` prints
// the table (or JSON with "phase": "down") and returns kExitUnavailable. `dw status` of a platform
// of which a part is down returns kExitBadOutcome; kExitOk says that every process answers.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_LOCAL_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_LOCAL_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddLocalCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_LOCAL_COMMANDS_H_
