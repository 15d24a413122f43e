// The texts of --help, made from what commands declare. Pure functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_HELP_H_
#define DELTAWORKS_SERVICES_CLI_HELP_H_

#include <string>
#include <vector>

#include "services/cli/command.h"

namespace deltaworks::services {

// A command and what it declared.
struct DeclaredCommand {
  Command* command = nullptr;
  std::string name;
  std::vector<std::string> words;  // Of the name.
  Arguments arguments;
};

// What there is, for help and completion.
struct Catalog {
  std::vector<DeclaredCommand> commands;
  Arguments global;  // The flags of every command.
};

// One line about a group of commands ("job", "adapter alias"); empty if there is no such group.
std::string GroupSummary(const std::string& group);

// Of one command: usage, summary, arguments, flags by section, examples. `global` are the flags
// that every command takes.
std::string CommandHelp(const DeclaredCommand& command, const Arguments& global);

// Of a group, or of all of dw if `group` is empty: the commands in it, the exit codes.
std::string GroupHelp(const std::string& group, const std::vector<DeclaredCommand>& commands,
                      const Arguments& global);

// The entry of `candidates` that `word` was probably meant to be; empty if none is near.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_HELP_H_
