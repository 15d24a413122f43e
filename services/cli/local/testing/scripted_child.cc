// A child for tests of the supervisor: no service, only what a supervisor sees of one. It appends
// "start NAME MS" to a journal, then does what its plan says for this start, the last word for all
// later ones:
//
//   stay      writes its port files and waits for SIGTERM; then "stop NAME MS", exit code 0
//   stubborn  the same, and does not listen to SIGTERM
//   silent    writes no port file
//   exitN     ends at once with exit code N
//
//   scripted_child --journal=FILE --name=NAME --plan=stay,exit3,stay --port_file=... ...

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace {

void Append(const std::string& path, const std::string& line) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (fd < 0 || write(fd, line.data(), line.size()) < 0) _exit(98);
  close(fd);
}

void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

int64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// How often `mark` begins a line of the journal.
size_t CountLines(const std::string& path, const std::string& mark) {
  std::ifstream file(path);
  std::string line;
  size_t count = 0;
  while (std::getline(file, line)) count += absl::StartsWith(line, mark) ? 1 : 0;
  return count;
}

void WaitForever(bool listen) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  int number = 0;
  do {
    sigwait(&set, &number);
  } while (!listen);
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    flags[parts.first] = parts.second;
  }
  const std::string journal = flags["--journal"];
  const std::string start = absl::StrCat("start ", flags["--name"], " ");
  const std::vector<std::string> plan = absl::StrSplit(flags["--plan"], ',');
  const std::string now = plan[std::min(CountLines(journal, start), plan.size() - 1)];
  Append(journal, absl::StrCat(start, NowMs(), "\n"));
  std::cout << "says " << now << ", told " << flags["--told"] << std::endl;
  int code = 0;
  if (absl::StartsWith(now, "exit") && absl::SimpleAtoi(now.substr(4), &code)) return code;
  if (now != "silent") {
    // As a service does: the port that was asked for, or one of its own.
    const std::string address = flags["--address"];
    const std::string port = address.substr(address.rfind(':') + 1);
    Write(flags["--metrics_port_file"], "9\n");
    Write(flags["--port_file"], absl::StrCat(port == "0" ? "4242" : port, "\n"));
  }
  WaitForever(now != "stubborn");
  Append(journal, absl::StrCat("stop ", flags["--name"], " ", NowMs(), "\n"));
  return 0;
}
