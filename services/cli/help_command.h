// dw help.

#ifndef DELTAWORKS_SERVICES_CLI_HELP_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_HELP_COMMAND_H_

#include <memory>

#include "services/cli/command.h"

namespace deltaworks::services {

std::unique_ptr<Command> MakeHelp();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_HELP_COMMAND_H_
