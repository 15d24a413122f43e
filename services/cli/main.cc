// The command line `dw`. `dw --help` lists what it does; README.md tells how it is made.

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "services/base/clock.h"
#include "services/cli/all_commands.h"
#include "services/cli/dw.h"
#include "services/cli/grpc_platform.h"
#include "services/cli/interrupt.h"

namespace {

// 0 where it is no terminal.
int TerminalWidth() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace deltaworks::services;
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  const int width = terminal ? TerminalWidth() : 0;
  const DwProcess process{
      .out = std::cout,
      .err = std::cerr,
      .in = std::cin,
      .clock = RealClock(),
      .environment =
          [](const std::string& name) {
            const char* value = std::getenv(name.c_str());
            return std::string(value == nullptr ? "" : value);
          },
      .make_platform = MakeGrpcPlatform,
      .sleep = [](absl::Duration duration) { absl::SleepFor(duration); },
      .on_interrupt = [](const std::string& note) { SayOnInterrupt(note); },
      .terminal = terminal,
      .err_terminal = isatty(STDERR_FILENO) != 0,
      .width = width > 0 ? width : 80,
  };
  return RunDw(AllCommands(), std::vector<std::string>(argv + 1, argv + argc), process);
}
