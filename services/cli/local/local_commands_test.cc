// `dw up`, `dw status` and `dw down` as a person uses them: the real program, real processes with
// real health checks, in a home of their own. The services are testing/fake_service.cc.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/file_lock.h"
#include "services/cli/exit_code.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/platform_state.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Runfile(const std::string& path) {
  return absl::StrCat(getenv("TEST_SRCDIR"), "/", getenv("TEST_WORKSPACE"), "/", path);
}

struct Result {
  int code = -1;
  std::string out;
  std::string err;
};

class LocalCommandsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = ::testing::TempDir() + "/local.XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    layout_.home = folder + "/home";
    ASSERT_TRUE(MakeDirectories(folder + "/bin").ok());
    for (const char* service : {"store", "registry", "scheduler", "inference", "worker"}) {
      const std::string link = absl::StrCat(folder, "/bin/", service);
      ASSERT_EQ(symlink(Runfile("services/cli/local/fake_service").c_str(), link.c_str()), 0);
    }
  }

  void TearDown() override {
    if (FileLock::TryAcquire(layout_.LockFile()).ok()) return;
    const auto state = ReadPlatformState(layout_.StateFile());
    if (state.ok() && IsAlive(*state)) kill(static_cast<pid_t>(state->supervisor_pid), SIGKILL);
  }

  pid_t Spawn(std::vector<std::string> words, const std::string& name) {
    words.insert(words.begin(), Runfile("services/cli/dw"));
    words.push_back("--home=" + layout_.home);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string out = absl::StrCat(folder_, "/", name, ".out");
    const std::string err = absl::StrCat(folder_, "/", name, ".err");
    const pid_t pid = fork();
    if (pid != 0) return pid;
    dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(99);
  }

  Result Finish(pid_t pid, const std::string& name) {
    int status = 0;
    waitpid(pid, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
            *ReadFile(absl::StrCat(folder_, "/", name, ".out")),
            *ReadFile(absl::StrCat(folder_, "/", name, ".err"))};
  }

  Result Dw(const std::vector<std::string>& words) { return Finish(Spawn(words, "dw"), "dw"); }

  std::vector<std::string> UpWords(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"up", "--bin_folder=" + folder_ + "/bin"};
    if (more.empty() || !absl::StartsWith(more[0], "--port_base")) {
      words.push_back("--port_base=0");
    }
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Result Up(const std::vector<std::string>& more = {}) { return Dw(UpWords(more)); }

  Json Status(int* code = nullptr) {
    const Result result = Dw({"status", "--output=json"});
    if (code != nullptr) *code = result.code;
    const auto json = ParseJson(result.out, "status");
    EXPECT_TRUE(json.ok()) << json.status() << result.err;
    return json.value_or(Json::object());
  }

  // Bounded wait until the published state is as told.
  bool Await(const std::function<bool(const PlatformState&)>& reached) {
    for (int i = 0; i < 2000; ++i) {
      const auto state = ReadPlatformState(layout_.StateFile());
      if (state.ok() && reached(*state)) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }

  bool NothingRuns() { return FileLock::TryAcquire(layout_.LockFile()).ok(); }

  std::string folder_;
  PlatformLayout layout_;
};

TEST_F(LocalCommandsTest, UpStatusAndDownOfAWholePlatform) {
  const Result up = Up({"--train=cpu:0,cpu:1"});
  ASSERT_EQ(up.code, kExitOk) << up.err;
  EXPECT_THAT(up.out, AllOf(HasSubstr("worker-cpu-1"), HasSubstr("/metrics"),
                            HasSubstr("home/logs\n"), HasSubstr("dw down")));

  int code = -1;
  const Json status = Status(&code);
  EXPECT_EQ(code, kExitOk);
  EXPECT_EQ(status["phase"], "up");
  ASSERT_EQ(status["processes"].size(), 6);
  std::set<std::string> addresses;
  for (const Json& process : status["processes"]) {
    EXPECT_EQ(process["state"], "up");
    EXPECT_EQ(process["health"], "serving");
    EXPECT_EQ(process["restarts"], 0);
    addresses.insert(process["address"].get<std::string>());
    addresses.insert(process["metrics_address"].get<std::string>());
  }
  EXPECT_EQ(addresses.size(), 12);
  EXPECT_TRUE(ReadFile(layout_.ClientFile()).ok());
  EXPECT_THAT(Dw({"status"}).out, AllOf(HasSubstr("HEALTH"), HasSubstr("scheduler")));

  const Result down = Dw({"down"});
  EXPECT_EQ(down.code, kExitOk) << down.err;
  EXPECT_TRUE(NothingRuns());
  EXPECT_EQ(Status(&code)["phase"], "down");
  EXPECT_EQ(code, kExitUnavailable);
}

TEST_F(LocalCommandsTest, UpOfWhatIsUpSaysSo) {
  ASSERT_EQ(Up().code, kExitOk);
  const Json before = Status();
  const Result again = Up();
  EXPECT_EQ(again.code, kExitOk) << again.err;
  EXPECT_THAT(again.out, HasSubstr("already up"));
  EXPECT_EQ(Status()["supervisor_pid"], before["supervisor_pid"]);
}

TEST_F(LocalCommandsTest, OfTwoAtOnceOneStartsAndBothSucceed) {
  const pid_t first = Spawn(UpWords(), "first");
  const pid_t second = Spawn(UpWords(), "second");
  const Result one = Finish(first, "first");
  const Result two = Finish(second, "second");
  EXPECT_EQ(one.code, kExitOk) << one.err;
  EXPECT_EQ(two.code, kExitOk) << two.err;
  EXPECT_EQ(Status()["processes"].size(), 5);
}

TEST_F(LocalCommandsTest, DownOfNothingSucceedsAndStatusSaysDown) {
  const Result down = Dw({"down"});
  EXPECT_EQ(down.code, kExitOk) << down.err;
  EXPECT_THAT(down.out, HasSubstr("nothing runs"));
  const Result status = Dw({"status"});
  EXPECT_EQ(status.code, kExitUnavailable);
  EXPECT_THAT(status.out, HasSubstr("down: no platform runs"));
}

TEST_F(LocalCommandsTest, AfterAKilledSupervisorNothingIsLeftAndUpGoesOn) {
  ASSERT_EQ(Up().code, kExitOk);
  const Json before = Status();
  kill(before["supervisor_pid"].get<pid_t>(), SIGKILL);
  ASSERT_TRUE(Await([](const PlatformState& state) { return !IsAlive(state); }));
  const Result status = Dw({"status"});
  EXPECT_EQ(status.code, kExitUnavailable);
  EXPECT_THAT(status.err, HasSubstr("was killed"));

  const Result again = Up();
  ASSERT_EQ(again.code, kExitOk) << again.err;
  for (const Json& process : before["processes"]) {
    EXPECT_EQ(StartTicksOf(process["pid"].get<int64_t>()), 0);
  }
  EXPECT_EQ(Status()["phase"], "up");
}

TEST_F(LocalCommandsTest, DownAfterAKilledSupervisorRemovesTheStaleClientFile) {
  ASSERT_EQ(Up().code, kExitOk);
  kill(Status()["supervisor_pid"].get<pid_t>(), SIGKILL);
  ASSERT_TRUE(Await([](const PlatformState& state) { return !IsAlive(state); }));
  EXPECT_EQ(Dw({"down"}).code, kExitOk);
  EXPECT_TRUE(NothingRuns());
  EXPECT_TRUE(absl::IsNotFound(ReadFile(layout_.ClientFile()).status()));
}

TEST_F(LocalCommandsTest, AServiceThatCannotStartEndsUpWithItsLog) {
  const Result up = Up({"--set=registry.fail=start"});
  EXPECT_EQ(up.code, kExitError);
  EXPECT_THAT(up.err, AllOf(HasSubstr("the database is locked"), HasSubstr("registry.log"),
                            HasSubstr("registry ended before it answered: exit code 3")));
  EXPECT_TRUE(NothingRuns());
  EXPECT_THAT(Dw({"status"}).err, HasSubstr("the last `dw up` failed: registry ended"));
  // Nothing is in the way of the next.
  EXPECT_EQ(Up().code, kExitOk);
}

TEST_F(LocalCommandsTest, AWrongFlagOfAServiceIsShown) {
  const Result up = Up({"--set=store.no_such_flag=1"});
  EXPECT_EQ(up.code, kExitError);
  EXPECT_THAT(up.err, AllOf(HasSubstr("no_such_flag"), HasSubstr("exit code 2")));
  EXPECT_TRUE(NothingRuns());
}

TEST_F(LocalCommandsTest, APortInUseIsNamedWithItsOwner) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  // The scheduler's port; a few neighbours must be in range.
  int port = 20'000;
  for (; port < 60'000; ++port) {
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0) break;
  }
  ASSERT_EQ(listen(fd, 1), 0);
  const Result up = Up({absl::StrCat("--port_base=", port)});
  EXPECT_EQ(up.code, kExitRefused);
  EXPECT_THAT(up.err, AllOf(HasSubstr(absl::StrCat("127.0.0.1:", port)), HasSubstr("is in use by"),
                            HasSubstr(absl::StrCat("process ", getpid()))));
  EXPECT_TRUE(NothingRuns());
  close(fd);
}

TEST_F(LocalCommandsTest, WrongOptionsAreSaidBeforeAnythingRuns) {
  const Result device = Up({"--train=tpu:0"});
  EXPECT_EQ(device.code, kExitWrongUse);
  EXPECT_THAT(device.err, HasSubstr("want cpu:N"));
  const Result folder = Dw({"up", "--bin_folder=/absent"});
  EXPECT_EQ(folder.code, kExitNotFound);
  EXPECT_THAT(folder.err, HasSubstr("/absent/store"));
  EXPECT_TRUE(absl::IsNotFound(ReadFile(layout_.StateFile()).status()));
}

TEST_F(LocalCommandsTest, AKilledWorkerComesBackOnItsPort) {
  ASSERT_EQ(Up().code, kExitOk);
  const Json worker = Status()["processes"][4];
  kill(worker["pid"].get<pid_t>(), SIGKILL);
  ASSERT_TRUE(Await([](const PlatformState& state) {
    return state.processes[4].restarts == 1 && state.processes[4].phase == ProcessPhase::kUp;
  }));
  int code = -1;
  const Json now = Status(&code)["processes"][4];
  EXPECT_EQ(code, kExitOk);
  EXPECT_EQ(now["address"], worker["address"]);
  EXPECT_EQ(now["last_exit"], "signal 9");
}

TEST_F(LocalCommandsTest, AProcessThatDoesNotAnswerIsABadOutcome) {
  ASSERT_EQ(Up().code, kExitOk);
  const pid_t store = Status()["processes"][0]["pid"].get<pid_t>();
  kill(store, SIGSTOP);
  int code = -1;
  const Json status = Status(&code);
  EXPECT_EQ(code, kExitBadOutcome);
  EXPECT_NE(status["processes"][0]["health"], "serving");
  EXPECT_EQ(status["processes"][1]["health"], "serving");
  kill(store, SIGCONT);
}

TEST_F(LocalCommandsTest, UpOfWhatIsUpAsksEveryProcessHowItIs) {
  ASSERT_EQ(Up().code, kExitOk);
  const pid_t store = Status()["processes"][0]["pid"].get<pid_t>();
  kill(store, SIGSTOP);
  const Result again = Up({"--output=json"});
  kill(store, SIGCONT);
  const auto report = ParseJson(again.out, "up");
  ASSERT_TRUE(report.ok()) << report.status() << again.err;
  EXPECT_NE((*report)["processes"][0]["health"], "serving");
  EXPECT_EQ((*report)["processes"][1]["health"], "serving");
}

TEST_F(LocalCommandsTest, WhereItCannotBeToldWhatRunsNothingIsSaid) {
  ASSERT_TRUE(MakeDirectories(layout_.LockFile()).ok());
  for (const Result& result : {Dw({"down"}), Up()}) {
    EXPECT_EQ(result.code, kExitError) << result.out;
    EXPECT_THAT(result.err, HasSubstr("home/run/lock: "));
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(LocalCommandsTest, DownReachesASupervisorThatHasNotSaidYetWhoItIs) {
  ASSERT_TRUE(MakeHome(layout_).ok());
  // A supervisor, as far as `down` sees one: it holds the lock, and SIGTERM ends it.
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    const auto lock = FileLock::TryAcquire(layout_.LockFile());
    if (!lock.ok() || write(ready[1], "x", 1) != 1) _exit(97);
    while (true) pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const pid_t down = Spawn({"down", "--timeout=20s"}, "down");
  const auto waits = [this] {
    return absl::StrContains(ReadFile(folder_ + "/down.err").value_or(""), "stopping");
  };
  for (int i = 0; i < 2000 && !waits(); ++i) absl::SleepFor(absl::Milliseconds(10));
  const PlatformState state{.supervisor_pid = supervisor,
                            .supervisor_start_ticks = StartTicksOf(supervisor)};
  ASSERT_TRUE(WritePlatformState(layout_.StateFile(), state).ok());
  const Result result = Finish(down, "down");
  kill(supervisor, SIGKILL);  // Only matters if nobody told it before.
  int status = 0;
  waitpid(supervisor, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("down after"));
  close(ready[0]);
  close(ready[1]);
}

TEST_F(LocalCommandsTest, DownKillsWhatDoesNotEndInTime) {
  ASSERT_EQ(Up().code, kExitOk);
  kill(Status()["processes"][0]["pid"].get<pid_t>(), SIGSTOP);
  const Result down = Dw({"down", "--timeout=300ms"});
  EXPECT_EQ(down.code, kExitBadOutcome) << down.err;
  EXPECT_THAT(down.out, HasSubstr("killed"));
  EXPECT_TRUE(NothingRuns());
}

TEST_F(LocalCommandsTest, InTheForegroundItStopsWithItsSignal) {
  const pid_t pid = Spawn(UpWords({"--foreground"}), "foreground");
  EXPECT_TRUE(Await([](const PlatformState& state) { return state.phase == PlatformPhase::kUp; }));
  kill(pid, SIGINT);
  const Result result = Finish(pid, "foreground");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("worker-cpu-0"));
  EXPECT_TRUE(NothingRuns());
}

TEST_F(LocalCommandsTest, TokensAreNeitherPrintedNorLogged) {
  const Result up = Up();
  ASSERT_EQ(up.code, kExitOk);
  std::string said = up.out + up.err + Dw({"status"}).out;
  for (const char* name : {"supervisor", "store", "worker-cpu-0"}) {
    said += *ReadFile(layout_.LogFile(name));
  }
  for (const std::string& file : {layout_.PlatformTokenFile(), layout_.DefaultTokenFile()}) {
    EXPECT_THAT(said, Not(HasSubstr(ReadFile(file)->substr(0, 20))));
  }
}

}  // namespace
}  // namespace deltaworks::services
