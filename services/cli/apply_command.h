// Apply: dw apply.

#ifndef DELTAWORKS_SERVICES_CLI_APPLY_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_APPLY_COMMAND_H_

#include <memory>

#include "services/cli/command.h"

namespace deltaworks::services {

std::unique_ptr<Command> MakeApply();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_APPLY_COMMAND_H_
