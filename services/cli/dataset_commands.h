// dw dataset add, list, get, check, preview.

#ifndef DELTAWORKS_SERVICES_CLI_DATASET_COMMANDS_H_
#define DELTAWORKS_SERVICES_CLI_DATASET_COMMANDS_H_

#include "services/cli/command.h"

namespace deltaworks::services {

void AddDatasetCommands(CommandTable& table);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_DATASET_COMMANDS_H_
