// AllCommands: the table of everything that `dw` can do, in the order of `dw --help`.

#ifndef DELTAWORKS_SERVICES_CLI_ALL_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_ALL_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

CommandTable AllCommands();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ALL_COMMANDS_H_
