#include "services/cli/local/detached_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "trainer/base/file.h"

namespace deltaworks::services {

absl::StatusOr<std::unique_ptr<DetachedProcess>> DetachedProcess::Start(
    const std::vector<std::string>& command, const std::string& output_file) {
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int output = open(output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (output < 0) return ErrnoStatus(errno, output_file, "open");
  const pid_t pid = fork();
  const int fork_error = errno;
  if (pid == 0) {
    // Only what is safe between fork and exec.
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0) {
      _exit(127);
    }
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(output);
  if (pid < 0) return ErrnoStatus(fork_error, words[0], "fork");
  return std::unique_ptr<DetachedProcess>(new DetachedProcess(pid));
}

std::optional<int> DetachedProcess::ExitCode() {
  int status = 0;
  if (!code_.has_value() && waitpid(pid_, &status, WNOHANG) == pid_) {
    code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return code_;
}

}  // namespace deltaworks::services
