// A supervisor is right if a platform starts whole or not at all, what dies comes back, the workers
// end first, and nothing ever outlives it. The supervisor runs in a process of its own here, so
// that it can be killed; its children are testing/scripted_child.cc.

#include "services/cli/local/supervisor.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/clock.h"
#include "services/base/file_lock.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kStopped = 0;
constexpr int kNotStarted = 3;

std::string ChildPath() {
  return absl::StrCat(getenv("TEST_SRCDIR"), "/", getenv("TEST_WORKSPACE"),
                      "/services/cli/local/scripted_child");
}

// A home of its own, a plan, and the supervisor's process.
class World {
 public:
  World() {
    std::string folder = ::testing::TempDir() + "/supervisor.XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    options_.layout.home = folder;
    EXPECT_TRUE(MakeHome(options_.layout).ok());
    options_.process.restart = {absl::Milliseconds(100), absl::Milliseconds(300), absl::Hours(1)};
    options_.process.check_health = [](const std::string&) { return absl::OkStatus(); };
  }
  ~World() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  Supervisor::Options& options() { return options_; }
  const PlatformLayout& layout() const { return options_.layout; }

  ProcessSpec& Add(const std::string& name, const std::string& plan, int stop_rank = 0) {
    ProcessSpec spec;
    spec.name = name;
    spec.binary = ChildPath();
    spec.arguments = {"--journal=" + Journal(), "--name=" + name, "--plan=" + plan};
    spec.address = spec.metrics_address = "127.0.0.1:0";
    spec.stop_rank = stop_rank;
    spec.stop_timeout = absl::Seconds(20);
    options_.processes.push_back(spec);
    return options_.processes.back();
  }

  // Runs the supervisor, with the home's lock, in a process of its own.
  void Start() {
    pid_ = fork();
    if (pid_ != 0) return;
    auto lock = FileLock::TryAcquire(options_.layout.LockFile());
    if (!lock.ok()) _exit(97);
    options_.process.inherited_fd = lock->fd();
    Supervisor supervisor(options_, RealClock());
    _exit(supervisor.Run().ok() ? kStopped : kNotStarted);
  }

  void Signal(int number) { kill(pid_, number); }
  int Wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // Waits, bounded, until the published state is as told, and returns it.
  PlatformState Await(const std::function<bool(const PlatformState&)>& reached) {
    PlatformState state;
    for (int i = 0; i < 3000; ++i) {
      const auto read = ReadPlatformState(layout().StateFile());
      if (read.ok()) state = *read;
      if (read.ok() && reached(state)) return state;
      absl::SleepFor(absl::Milliseconds(10));
    }
    ADD_FAILURE() << "not reached; phase is " << NameOf(state.phase) << " " << state.error;
    return state;
  }
  PlatformState AwaitUp() {
    return Await([](const auto& state) { return state.phase == PlatformPhase::kUp; });
  }
  // True as soon as nobody holds the home's lock.
  bool AwaitFree() {
    for (int i = 0; i < 3000; ++i) {
      if (FileLock::TryAcquire(layout().LockFile()).ok()) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }

  std::string Journal() const { return layout().home + "/journal"; }
  // Without the times.
  std::vector<std::string> Events() const {
    std::vector<std::string> events;
    for (const auto& [event, ms] : Lines()) events.push_back(event);
    return events;
  }
  std::vector<std::pair<std::string, int64_t>> Lines() const {
    std::vector<std::pair<std::string, int64_t>> lines;
    const auto text = ReadFile(Journal());
    for (absl::string_view line : absl::StrSplit(text.value_or(""), '\n', absl::SkipEmpty())) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      int64_t ms = 0;
      EXPECT_TRUE(words.size() == 3 && absl::SimpleAtoi(words[2], &ms)) << line;
      lines.emplace_back(absl::StrCat(words[0], " ", words[1]), ms);
    }
    return lines;
  }

 private:
  Supervisor::Options options_;
  pid_t pid_ = -1;
};

bool Lives(int64_t pid) { return StartTicksOf(pid) != 0; }

TEST(SupervisorTest, ProcessesStartInOrderAndStopByRank) {
  World world;
  world.Add("store", "stay", 0);
  world.Add("scheduler", "stay", 1);
  world.Add("worker", "stay", 9);
  world.Start();
  const PlatformState up = world.AwaitUp();
  ASSERT_EQ(up.processes.size(), 3);
  for (const ProcessState& process : up.processes) {
    EXPECT_EQ(process.phase, ProcessPhase::kUp);
    EXPECT_TRUE(Lives(process.pid));
  }
  EXPECT_TRUE(IsAlive(up));
  EXPECT_TRUE(ReadFile(world.layout().ClientFile()).ok());

  world.Signal(SIGTERM);
  EXPECT_EQ(world.Wait(), kStopped);
  EXPECT_THAT(world.Events(), ElementsAre("start store", "start scheduler", "start worker",
                                          "stop worker", "stop scheduler", "stop store"));
  const PlatformState down = *ReadPlatformState(world.layout().StateFile());
  EXPECT_EQ(down.phase, PlatformPhase::kStopped);
  EXPECT_FALSE(IsAlive(down));
  EXPECT_TRUE(absl::IsNotFound(ReadFile(world.layout().ClientFile()).status()));
}

TEST(SupervisorTest, AProcessIsToldTheAddressesOfThoseBefore) {
  World world;
  world.Add("store", "stay");
  world.Add("registry", "stay").arguments.push_back("--told={store}");
  world.Start();
  const PlatformState up = world.AwaitUp();
  EXPECT_EQ(up.processes[0].address, "127.0.0.1:4242");
  EXPECT_EQ(up.processes[0].metrics_address, "127.0.0.1:9");
  // What a process says is in its log.
  EXPECT_THAT(*ReadFile(up.processes[1].log_file), HasSubstr("says stay, told 127.0.0.1:4242"));
}

TEST(SupervisorTest, AKilledProcessComesBackAfterDelaysThatDouble) {
  World world;
  world.Add("store", "stay,exit3,exit3,exit3,stay");
  world.Start();
  const PlatformState up = world.AwaitUp();
  kill(static_cast<pid_t>(up.processes[0].pid), SIGKILL);
  const PlatformState again = world.Await([](const PlatformState& state) {
    return state.processes[0].restarts == 4 && state.processes[0].phase == ProcessPhase::kUp;
  });
  EXPECT_EQ(again.phase, PlatformPhase::kUp);
  EXPECT_EQ(again.processes[0].last_exit, "exit code 3");
  // The port that it took at first is asked for again.
  EXPECT_EQ(again.processes[0].address, "127.0.0.1:4242");
  const auto lines = world.Lines();
  ASSERT_EQ(lines.size(), 5);
  EXPECT_GE(lines[2].second - lines[1].second, 200);
  EXPECT_GE(lines[3].second - lines[2].second, 300);
  EXPECT_GE(lines[4].second - lines[3].second, 300);
}

TEST(SupervisorTest, ExitCode2IsReportedAndNotTriedAgain) {
  World world;
  world.Add("store", "stay");
  world.Add("registry", "stay,exit2");
  world.Start();
  const PlatformState up = world.AwaitUp();
  kill(static_cast<pid_t>(up.processes[1].pid), SIGKILL);
  const PlatformState failed = world.Await(
      [](const auto& state) { return state.processes[1].phase == ProcessPhase::kFailed; });
  EXPECT_EQ(failed.phase, PlatformPhase::kUp);
  EXPECT_EQ(failed.processes[0].phase, ProcessPhase::kUp);
  EXPECT_EQ(failed.processes[1].last_exit, "exit code 2");
  EXPECT_EQ(failed.processes[1].restarts, 1);
  world.Signal(SIGTERM);
  EXPECT_EQ(world.Wait(), kStopped);
}

TEST(SupervisorTest, AProcessThatCannotStartEndsThePlatform) {
  World world;
  world.Add("store", "stay");
  world.Add("registry", "exit3");
  world.Add("scheduler", "stay");
  world.Start();
  EXPECT_EQ(world.Wait(), kNotStarted);
  const PlatformState state = *ReadPlatformState(world.layout().StateFile());
  EXPECT_EQ(state.phase, PlatformPhase::kFailed);
  EXPECT_EQ(state.failed_process, "registry");
  EXPECT_EQ(state.error, "registry ended before it answered: exit code 3");
  EXPECT_THAT(world.Events(), ElementsAre("start store", "start registry", "stop store"));
  EXPECT_TRUE(FileLock::TryAcquire(world.layout().LockFile()).ok());
}

TEST(SupervisorTest, AProcessThatEndsWhileOthersStartEndsThePlatform) {
  World world;
  world.options().process.restart.delay_min = absl::Hours(1);
  world.Add("store", "stay");
  world.Add("registry", "silent");
  world.Start();
  const PlatformState starting = world.Await([](const PlatformState& state) {
    return state.processes.size() == 2 && state.processes[1].phase == ProcessPhase::kStarting;
  });
  kill(static_cast<pid_t>(starting.processes[0].pid), SIGKILL);
  EXPECT_EQ(world.Wait(), kNotStarted);
  const PlatformState state = *ReadPlatformState(world.layout().StateFile());
  EXPECT_EQ(state.phase, PlatformPhase::kFailed);
  EXPECT_EQ(state.failed_process, "store");
  EXPECT_EQ(state.error, "store ended while others were starting: signal 9");
  EXPECT_TRUE(absl::IsNotFound(ReadFile(world.layout().ClientFile()).status()));
  EXPECT_TRUE(FileLock::TryAcquire(world.layout().LockFile()).ok());
}

TEST(SupervisorTest, WhoCannotSayHowItIsStartsNothing) {
  World world;
  world.Add("store", "stay");
  ASSERT_TRUE(MakeDirectories(world.layout().StateFile() + "/in_the_way").ok());
  world.Start();
  EXPECT_EQ(world.Wait(), kNotStarted);
  EXPECT_THAT(world.Events(), ::testing::IsEmpty());
}

TEST(SupervisorTest, AProgramThatIsNotThereIsNamed) {
  World world;
  world.Add("store", "stay").binary = "/absent/store";
  world.Start();
  EXPECT_EQ(world.Wait(), kNotStarted);
  EXPECT_THAT(ReadPlatformState(world.layout().StateFile())->error, HasSubstr("/absent/store"));
}

TEST(SupervisorTest, AProcessThatNeverAnswersIsKilled) {
  World world;
  world.options().process.start_timeout = absl::Milliseconds(200);
  world.Add("store", "silent");
  world.Start();
  EXPECT_EQ(world.Wait(), kNotStarted);
  EXPECT_EQ(ReadPlatformState(world.layout().StateFile())->error,
            "store did not answer within 200ms");
  EXPECT_TRUE(FileLock::TryAcquire(world.layout().LockFile()).ok());
}

TEST(SupervisorTest, AProcessThatDoesNotServeIsNotUp) {
  World world;
  world.options().process.start_timeout = absl::Milliseconds(200);
  world.options().process.check_health = [](const std::string&) {
    return absl::UnavailableError("not serving");
  };
  world.Add("store", "stay");
  world.Start();
  EXPECT_EQ(world.Wait(), kNotStarted);
}

TEST(SupervisorTest, EveryProcessDiesWithASupervisorThatIsKilled) {
  World world;
  world.Add("store", "stubborn");
  world.Add("worker", "stubborn");
  world.Start();
  const PlatformState up = world.AwaitUp();
  EXPECT_FALSE(FileLock::TryAcquire(world.layout().LockFile()).ok());
  world.Signal(SIGKILL);
  EXPECT_EQ(world.Wait(), -SIGKILL);
  // The lock is inherited by the processes: free means that all of them are gone.
  EXPECT_TRUE(world.AwaitFree());
  for (const ProcessState& process : up.processes) EXPECT_FALSE(Lives(process.pid));
  EXPECT_FALSE(IsAlive(*ReadPlatformState(world.layout().StateFile())));
}

TEST(SupervisorTest, AProcessThatDoesNotListenIsKilledAtItsTimeout) {
  World world;
  world.Add("worker", "stubborn").stop_timeout = absl::Milliseconds(200);
  world.Start();
  world.AwaitUp();
  world.Signal(SIGTERM);
  EXPECT_EQ(world.Wait(), kStopped);
  EXPECT_THAT(ReadPlatformState(world.layout().StateFile())->processes[0].last_exit, "signal 9");
}

TEST(SupervisorTest, ASecondSignalKillsWhatIsLeft) {
  World world;
  world.Add("worker", "stubborn").stop_timeout = absl::Hours(1);
  world.Start();
  world.AwaitUp();
  world.Signal(SIGTERM);
  world.Await([](const auto& state) { return state.phase == PlatformPhase::kStopping; });
  world.Signal(SIGTERM);
  EXPECT_EQ(world.Wait(), kStopped);
}

TEST(SupervisorTest, ToldToStopWhileStartingItStops) {
  World world;
  world.Add("store", "stay");
  world.Add("registry", "silent");
  world.Start();
  world.Await([](const auto& state) {
    return state.processes.size() == 2 && state.processes[1].phase == ProcessPhase::kStarting;
  });
  world.Signal(SIGINT);
  EXPECT_EQ(world.Wait(), kStopped);
  EXPECT_EQ(ReadPlatformState(world.layout().StateFile())->phase, PlatformPhase::kStopped);
}

}  // namespace
}  // namespace deltaworks::services
