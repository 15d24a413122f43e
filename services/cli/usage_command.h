// dw usage: what tenants used, by day.

#ifndef DELTAWORKS_SERVICES_CLI_USAGE_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_USAGE_COMMAND_H_

#include <memory>

#include "services/cli/command.h"

namespace deltaworks::services {

std::unique_ptr<Command> MakeUsage();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_USAGE_COMMAND_H_
