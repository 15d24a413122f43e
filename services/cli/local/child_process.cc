#include "services/cli/local/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

constexpr size_t kReadBytesMax = 64 << 10;

// What the child needs, made before the fork: after it, memory must not be allocated.
struct Exec {
  char* const* argv;
  int nice;
  int inherited_fd;
  int output_fd;
  int error_fd;  // Gets errno if the program could not be run; closes itself if it could.
  pid_t parent;
};

[[noreturn]] void Fail(const Exec& exec) {
  const int error = errno;
  static_cast<void>(!write(exec.error_fd, &error, sizeof(error)));
  _exit(127);
}

[[noreturn]] void RunChild(const Exec& exec) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != exec.parent) _exit(127);  // It died before the line above.
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0) Fail(exec);
  if (dup2(exec.output_fd, STDOUT_FILENO) < 0) Fail(exec);
  if (dup2(exec.output_fd, STDERR_FILENO) < 0) Fail(exec);
  // A library's forgotten descriptor must not keep a port or a lock.
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  if (exec.inherited_fd >= 0) fcntl(exec.inherited_fd, F_SETFD, 0);
  // Beyond the limit is as good as at it.
  if (exec.nice != 0) {
    errno = 0;
    static_cast<void>(!nice(exec.nice));
  }
  execv(exec.argv[0], exec.argv);
  Fail(exec);
}

ProcessExit ExitOf(int status) {
  return WIFSIGNALED(status) ? ProcessExit{.signal = WTERMSIG(status)}
                             : ProcessExit{.code = WEXITSTATUS(status)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const Spec& spec) {
  std::vector<std::string> words = spec.command;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  int output[2];
  int error[2];
  if (pipe2(output, O_CLOEXEC) != 0) return ErrnoStatus(errno, words[0], "pipe");
  if (pipe2(error, O_CLOEXEC) != 0) {
    const int cause = errno;
    close(output[0]);
    close(output[1]);
    return ErrnoStatus(cause, words[0], "pipe");
  }
  const auto close_error = absl::MakeCleanup([&] { close(error[0]); });
  const Exec exec = {argv.data(), spec.nice, spec.inherited_fd, output[1], error[1], getpid()};
  const pid_t pid = fork();
  const int fork_error = errno;
  if (pid == 0) RunChild(exec);
  close(output[1]);
  close(error[1]);
  if (pid < 0) {
    close(output[0]);
    return ErrnoStatus(fork_error, words[0], "fork");
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  std::unique_ptr<ChildProcess> child(new ChildProcess(pid, output[0]));
  int cause = 0;
  if (read(error[0], &cause, sizeof(cause)) == sizeof(cause)) {
    return ErrnoStatus(cause, words[0], "exec");
  }
  return child;
}

ChildProcess::~ChildProcess() {
  if (!exit_.has_value()) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (output_fd_ >= 0) close(output_fd_);
}

std::string ChildProcess::ReadOutput() {
  if (output_fd_ < 0) return "";
  char buffer[kReadBytesMax];
  const ssize_t count = read(output_fd_, buffer, sizeof(buffer));
  if (count < 0) return "";
  if (count == 0) close(std::exchange(output_fd_, -1));
  return std::string(buffer, static_cast<size_t>(count));
}

void ChildProcess::Signal(int number) {
  if (!exit_.has_value()) kill(pid_, number);
}

std::optional<ProcessExit> ChildProcess::Poll() {
  if (exit_.has_value()) return exit_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) exit_ = ExitOf(status);
  return exit_;
}

}  // namespace deltaworks::services
