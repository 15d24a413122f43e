#include "tests/e2e/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "glog/logging.h"
#include "tests/e2e/await.h"

namespace deltaworks::e2e {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

ChildProcess::ChildProcess(const Command& command) {
  std::vector<std::string> arguments = {command.program};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  environment.insert(environment.end(), command.environment.begin(), command.environment.end());
  const std::vector<char*> argv = Pointers(arguments);
  const std::vector<char*> envp = Pointers(environment);
  const int log = open(command.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  PCHECK(log >= 0) << command.log_path;
  const pid_t parent = getpid();
  pid_ = fork();
  PCHECK(pid_ >= 0);
  if (pid_ == 0) {
    // Other threads may hold any lock: system calls only.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  close(log);
}

ChildProcess::~ChildProcess() { Kill(); }

void ChildProcess::Signal(int signal) {
  if (ExitCode().has_value()) return;
  PCHECK(kill(pid_, signal) == 0) << "signal " << signal;
}

std::optional<int> ChildProcess::ExitCode() {
  if (exit_code_.has_value()) return exit_code_;
  int status = 0;
  const pid_t ended = waitpid(pid_, &status, WNOHANG);
  PCHECK(ended >= 0);
  if (ended == pid_) exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return exit_code_;
}

std::optional<int> ChildProcess::Wait(absl::Duration timeout) {
  Await(
      timeout, [this] { return ExitCode().has_value(); }, absl::Milliseconds(1));
  return exit_code_;
}

void ChildProcess::Kill() {
  Signal(SIGKILL);
  CHECK(Wait(absl::Minutes(1)).has_value()) << "process " << pid_ << " survives SIGKILL";
}

}  // namespace deltaworks::e2e
