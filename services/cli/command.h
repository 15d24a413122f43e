// Command: one thing that `dw` can do, and what it is given to do it with.
//
// A command declares its arguments once, as data (arguments.h); parsing, --help, completion scripts
// and the test over every command all read that. Run() asks the services through typed clients, so
// a test hands it fakes. To add a command: write the class, register it in its Add...Commands(),
// and give it a row in commands_test.cc, which fails without one.
//
// What goes where: results to `out`, and nothing else, so that programs can read it; progress,
// remarks and errors to `err`. With OutputFormat::kJson `out` gets one JSON document (or one a line
// where the command streams).
//
// A CommandTable and its commands are used by one thread, and each command runs once.

#ifndef DELTAWORKS_SERVICES_CLI_COMMAND_H_
#define DELTAWORKS_SERVICES_CLI_COMMAND_H_

#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/cli/arguments.h"
#include "services/cli/platform.h"
#include "services/clients/retry.h"

namespace deltaworks::services {

enum class OutputFormat { kTable, kJson };

struct Catalog;  // help.h

// All of it outlives Run().
struct CommandContext {
  // Addresses, files and clients of the platform that is talked to.
  Platform& platform;
  std::ostream& out;
  std::ostream& err;
  // Standard input, for commands that take "-" for a file.
  std::istream& in;
  const Clock& clock;
  OutputFormat format = OutputFormat::kTable;
  // Whether `out` is a terminal, and takes colours: not with --no_color or NO_COLOR.
  bool terminal = false;
  bool color = false;
  // The same of `err`.
  bool err_terminal = false;
  bool err_color = false;
  // Columns of the terminal.
  int width = 80;
  // Id of the tenant that short names belong to.
  std::string tenant = "default";
  // From now on Ctrl-C says `note` on the terminal and ends the process with kExitInterrupted;
  // until this is called it just ends it. For commands that leave something going on.
  std::function<void(const std::string& note)> on_interrupt = [](const std::string&) {};
  // For polling loops; a test advances its clock.
  std::function<void(absl::Duration)> sleep;
  // Every command, for those that talk about the others.
  const Catalog* catalog = nullptr;

  bool json() const { return format == OutputFormat::kJson; }
  // For calls that are repeated, in this context's time.
  RetryPolicy retry_policy() const {
    return {.sleep = sleep, .monotonic = [this] { return clock.Monotonic(); }};
  }
};

class Command {
 public:
  virtual ~Command() = default;

  // The words after dw: "up", "job submit", "adapter alias set". The words before the last are
  // groups, described in help.cc.
  virtual std::string name() const = 0;
  // One line for the list of commands, no full stop: "Queue a fine-tune job".
  virtual std::string summary() const = 0;
  // Whole command lines, at least one: "dw job submit --base_model smollm2 --dataset notes".
  virtual std::vector<std::string> examples() const = 0;
  // What --help says besides, some sentences; may be empty.
  virtual std::string details() const { return ""; }
  // Not listed and not completed.
  virtual bool hidden() const { return false; }

  // Called once, before parsing. The targets must live as long as the command.
  virtual void Declare(Arguments& arguments) = 0;

  // After parsing. The exit code (exit_code.h); an error is printed to `err` by the caller and
  // mapped to one.
  virtual absl::StatusOr<int> Run(CommandContext& context) = 0;
};

using CommandTable = std::vector<std::unique_ptr<Command>>;

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_COMMAND_H_
