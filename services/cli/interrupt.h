// SayOnInterrupt: what Ctrl-C leaves on the terminal. One note at a time, from the main thread.

#ifndef DELTAWORKS_SERVICES_CLI_INTERRUPT_H_
#define DELTAWORKS_SERVICES_CLI_INTERRUPT_H_

#include <string>

namespace deltaworks::services {

// From now on SIGINT and SIGTERM write `note` to stderr and end the process at once with
// kExitInterrupted. At most 1,000 bytes of it are kept.
void SayOnInterrupt(const std::string& note);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_INTERRUPT_H_
