// Completion scripts for bash, zsh and fish, made from what commands declare. Pure functions.

#ifndef DELTAWORKS_SERVICES_CLI_COMPLETION_H_
#define DELTAWORKS_SERVICES_CLI_COMPLETION_H_

#include <string>

#include "services/cli/help.h"

namespace deltaworks::services {

std::string BashCompletion(const Catalog& catalog);
std::string ZshCompletion(const Catalog& catalog);
std::string FishCompletion(const Catalog& catalog);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_COMPLETION_H_
