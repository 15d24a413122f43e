// Parser: a command line becomes a command with its arguments set. CLI11 splits it into commands,
// flags and values; what the values mean is the arguments' own business (arguments.h).
// Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_PARSER_H_
#define DELTAWORKS_SERVICES_CLI_PARSER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/cli/command.h"
#include "services/cli/help.h"

namespace deltaworks::services {

// Asks every command what it takes.
std::vector<DeclaredCommand> DeclareAll(const CommandTable& table);

struct ParsedLine {
  // The command to run; null: `text` is what was asked for (help, the version).
  const DeclaredCommand* command = nullptr;
  std::string text;
};

// `words` without the program's name. Sets the targets of `global` and of the command's arguments.
// InvalidArgument: what was got, and the nearest thing that there is.
absl::StatusOr<ParsedLine> ParseLine(const std::vector<DeclaredCommand>& commands,
                                     const Arguments& global, std::vector<std::string> words);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_PARSER_H_
