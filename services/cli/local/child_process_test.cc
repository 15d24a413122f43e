// A child is right if its output arrives, its end is told, and it never outlives its parent.

#include "services/cli/local/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/local/detached_process.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

// Everything it says until it closes its output.
std::string AllOutput(ChildProcess& child) {
  std::string text;
  while (child.output_fd() >= 0) {
    pollfd fd = {child.output_fd(), POLLIN, 0};
    if (poll(&fd, 1, 20'000) != 1) return text + "(nothing for 20 s)";
    text += child.ReadOutput();
  }
  return text;
}

// Bounded wait for `done`; only asking tells.
template <typename Done>
bool Await(Done done) {
  for (int i = 0; i < 2000; ++i) {
    if (done()) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

ProcessExit AwaitExit(ChildProcess& child) {
  std::optional<ProcessExit> exit;
  EXPECT_TRUE(Await([&] { return (exit = child.Poll()).has_value(); }));
  return exit.value_or(ProcessExit{.code = -1});
}

std::unique_ptr<ChildProcess> Shell(const std::string& script, int inherited_fd = -1) {
  auto child =
      ChildProcess::Start({.command = {"/bin/sh", "-c", script}, .inherited_fd = inherited_fd});
  EXPECT_TRUE(child.ok()) << child.status();
  return *std::move(child);
}

TEST(ChildProcessTest, OutputOfBothStreamsAndTheExitCodeArrive) {
  const auto child = Shell("echo out; echo err >&2; exit 7");
  EXPECT_EQ(AllOutput(*child), "out\nerr\n");
  const ProcessExit exit = AwaitExit(*child);
  EXPECT_EQ(exit.code, 7);
  EXPECT_EQ(exit.signal, 0);
  EXPECT_EQ(exit.Text(), "exit code 7");
}

TEST(ChildProcessTest, ASignalIsToldAsSuch) {
  const auto child = Shell("kill -SEGV $$");
  EXPECT_EQ(AwaitExit(*child).Text(), "signal 11");
}

TEST(ChildProcessTest, AProgramThatIsNotThereIsAnErrorWithItsPath) {
  const auto child = ChildProcess::Start({.command = {"/absent/program"}});
  EXPECT_TRUE(absl::IsNotFound(child.status()));
  EXPECT_THAT(child.status().message(), HasSubstr("/absent/program"));
}

TEST(ChildProcessTest, TheChildHasTheInheritedDescriptorAndNoOther) {
  // Without close-on-exec, as a careless library would leave them.
  const int wanted = open("/dev/null", O_RDONLY);
  const int forgotten = open("/dev/null", O_RDONLY);
  const auto child = Shell(absl::StrCat("[ -e /proc/self/fd/", wanted, " ] && echo wanted; [ -e ",
                                        "/proc/self/fd/", forgotten, " ] && echo forgotten; :"),
                           wanted);
  EXPECT_EQ(AllOutput(*child), "wanted\n");
  close(wanted);
  close(forgotten);
}

TEST(ChildProcessTest, NiceIsAdded) {
  errno = 0;
  const int mine = nice(0);
  auto child = ChildProcess::Start({.command = {"/bin/sh", "-c", "nice"}, .nice = 3});
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(AllOutput(**child), absl::StrCat(std::min(mine + 3, 19), "\n"));
}

TEST(ChildProcessTest, ABlockedSignalIsNotInherited) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const auto child = Shell("sleep 100");
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  child->Signal(SIGTERM);
  EXPECT_EQ(AwaitExit(*child).signal, SIGTERM);
}

TEST(ChildProcessTest, ADestroyedOneIsGone) {
  auto child = Shell("exec sleep 100");
  const pid_t pid = child->pid();
  child.reset();
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ChildProcessTest, ItDiesWithItsParent) {
  int numbers[2];
  ASSERT_EQ(pipe(numbers), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    const auto child = Shell("exec sleep 100");
    const pid_t pid = child->pid();
    if (write(numbers[1], &pid, sizeof(pid)) != sizeof(pid)) _exit(1);
    pause();
  }
  pid_t child = 0;
  ASSERT_EQ(read(numbers[0], &child, sizeof(child)), static_cast<ssize_t>(sizeof(child)));
  ASSERT_EQ(kill(child, 0), 0);
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  // Init, or whoever adopts it, may take its time to reap it: a zombie counts as dead.
  EXPECT_TRUE(Await([child] {
    const auto stat = ReadFile(absl::StrCat("/proc/", child, "/stat"));
    return !stat.ok() || stat->find(") Z ") != std::string::npos;
  }));
  close(numbers[0]);
  close(numbers[1]);
}

TEST(DetachedProcessTest, ItHasItsOwnSessionAndAppendsItsOutput) {
  const std::string file = ::testing::TempDir() + "/detached.log";
  ASSERT_TRUE(WriteFileAtomically(file, "before\n").ok());
  const auto process = DetachedProcess::Start(
      {"/bin/sh", "-c", "cut -d' ' -f6 /proc/$$/stat; echo err >&2; exit 5"}, file);
  ASSERT_TRUE(process.ok()) << process.status();
  std::optional<int> code;
  EXPECT_TRUE(Await([&] { return (code = (*process)->ExitCode()).has_value(); }));
  EXPECT_EQ(code, 5);
  EXPECT_EQ(*ReadFile(file), absl::StrCat("before\n", (*process)->pid(), "\nerr\n"));
}

TEST(DetachedProcessTest, AProgramThatCannotRunIs127) {
  const auto process =
      DetachedProcess::Start({"/absent/program"}, ::testing::TempDir() + "/absent.log");
  ASSERT_TRUE(process.ok()) << process.status();
  std::optional<int> code;
  EXPECT_TRUE(Await([&] { return (code = (*process)->ExitCode()).has_value(); }));
  EXPECT_EQ(code, 127);
}

}  // namespace
}  // namespace deltaworks::services
