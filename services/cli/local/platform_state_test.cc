// What is written is read again, and a supervisor that is gone is not mistaken for one that runs.

#include "services/cli/local/platform_state.h"

#include <sys/wait.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

std::string FreshFile(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/" + name;
  unlink(path.c_str());
  return path;
}

TEST(PlatformStateTest, WhatIsWrittenIsReadAgain) {
  PlatformState state;
  state.phase = PlatformPhase::kFailed;
  state.supervisor_pid = 12;
  state.supervisor_start_ticks = 34;
  state.start_time = absl::FromUnixMillis(5678);
  state.error = "line \"one\"\nline two";
  state.failed_process = "registry";
  ProcessState process;
  process.name = "registry";
  process.phase = ProcessPhase::kRestarting;
  process.pid = 56;
  process.address = "127.0.0.1:7003";
  process.metrics_address = "127.0.0.1:7103";
  process.restarts = 7;
  process.start_time = absl::FromUnixMillis(91011);
  process.last_exit = "signal 9";
  process.log_file = "/h/logs/registry.log";
  state.processes = {process, {.name = "store"}};
  const std::string path = FreshFile("state.json");
  ASSERT_TRUE(WritePlatformState(path, state).ok());

  const auto read = ReadPlatformState(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->phase, state.phase);
  EXPECT_EQ(read->supervisor_pid, 12);
  EXPECT_EQ(read->supervisor_start_ticks, 34);
  EXPECT_EQ(read->start_time, state.start_time);
  EXPECT_EQ(read->error, state.error);
  EXPECT_EQ(read->failed_process, "registry");
  ASSERT_EQ(read->processes.size(), 2);
  EXPECT_EQ(read->processes[0].name, "registry");
  EXPECT_EQ(read->processes[0].phase, ProcessPhase::kRestarting);
  EXPECT_EQ(read->processes[0].pid, 56);
  EXPECT_EQ(read->processes[0].address, process.address);
  EXPECT_EQ(read->processes[0].metrics_address, process.metrics_address);
  EXPECT_EQ(read->processes[0].restarts, 7);
  EXPECT_EQ(read->processes[0].start_time, process.start_time);
  EXPECT_EQ(read->processes[0].last_exit, "signal 9");
  EXPECT_EQ(read->processes[0].log_file, process.log_file);
  EXPECT_EQ(read->processes[1].start_time, absl::UnixEpoch());
}

TEST(PlatformStateTest, ADamagedFileIsNamed) {
  const std::string path = FreshFile("damaged.json");
  ASSERT_TRUE(WriteFileAtomically(path, "{\"phase\":\"sideways\"}").ok());
  const auto read = ReadPlatformState(path);
  EXPECT_TRUE(absl::IsInvalidArgument(read.status()));
  EXPECT_THAT(read.status().message(), HasSubstr("damaged.json: phase is \"sideways\""));
  EXPECT_TRUE(absl::IsNotFound(ReadPlatformState(FreshFile("absent.json")).status()));
}

TEST(PlatformStateTest, AliveIsTheSameProcessNotTheSameNumber) {
  PlatformState state;
  state.supervisor_pid = getpid();
  state.supervisor_start_ticks = StartTicksOf(getpid());
  EXPECT_TRUE(IsAlive(state));
  // The number, used again by a later process.
  state.supervisor_start_ticks -= 1;
  EXPECT_FALSE(IsAlive(state));
  EXPECT_FALSE(IsAlive(PlatformState()));
}

TEST(PlatformStateTest, AProcessThatEndedIsNotAliveEvenBeforeItsParentLooked) {
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(StartTicksOf(pid), 0);
  waitpid(pid, nullptr, 0);
}

}  // namespace
}  // namespace deltaworks::services
