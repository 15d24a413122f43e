// dw adapter merge.

#ifndef DELTAWORKS_SERVICES_CLI_ADAPTER_MERGE_H_
#define DELTAWORKS_SERVICES_CLI_ADAPTER_MERGE_H_

#include <memory>

#include "services/cli/command.h"

namespace deltaworks::services {

std::unique_ptr<Command> MakeAdapterMerge();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ADAPTER_MERGE_H_
