#include "services/cli/interrupt.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "services/cli/exit_code.h"

namespace deltaworks::services {
namespace {

// A signal handler may not allocate, so the text lies here.
char note_bytes[1024];
volatile std::sig_atomic_t note_size = 0;

void SayAndExit(int) {
  if (write(STDERR_FILENO, note_bytes, static_cast<size_t>(note_size)) < 0) _exit(kExitError);
  _exit(kExitInterrupted);
}

}  // namespace

void SayOnInterrupt(const std::string& note) {
  const std::string text = absl::StrCat("\n", note.substr(0, 1000), "\n");
  note_size = 0;
  std::copy(text.begin(), text.end(), note_bytes);
  note_size = static_cast<std::sig_atomic_t>(text.size());
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = SayAndExit;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace deltaworks::services
