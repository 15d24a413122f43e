// JobSubmit: dw job submit.

#ifndef DELTAWORKS_SERVICES_CLI_JOB_SUBMIT_H_
#define DELTAWORKS_SERVICES_CLI_JOB_SUBMIT_H_

#include <memory>

#include "services/cli/command.h"

namespace deltaworks::services {

std::unique_ptr<Command> MakeJobSubmit();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_JOB_SUBMIT_H_
