// RunDw: one run of the command line, from words to exit code. Everything it touches outside comes
// in through DwProcess, so a test runs whole command lines in memory. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_DW_H_
#define DELTAWORKS_SERVICES_CLI_DW_H_

#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/cli/client_file.h"
#include "services/cli/command.h"
#include "services/cli/platform.h"

namespace deltaworks::services {

struct DwProcess {
  std::ostream& out;
  std::ostream& err;
  std::istream& in;
  const Clock& clock;
  Environment environment;
  std::function<std::unique_ptr<Platform>(PlatformSettings)> make_platform;
  std::function<void(absl::Duration)> sleep;
  std::function<void(const std::string& note)> on_interrupt;
  // Of `out`; of `err`.
  bool terminal = false;
  bool err_terminal = false;
  int width = 80;  // Of `out`.
};

// The flags that every command takes.
struct GlobalFlags {
  std::string output = "table";
  bool no_color = false;
  std::string tenant = "default";
  std::string config;
  PlatformSettings platform;

  void Declare(Arguments& arguments);
};

// Returns the exit code; what went wrong is on `process.err` by then.
int RunDw(const CommandTable& table, const std::vector<std::string>& words,
          const DwProcess& process);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_DW_H_
