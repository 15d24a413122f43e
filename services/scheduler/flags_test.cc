// Every flag of the scheduler's program that has a bound, one beyond it: the program ends at once
// as one that was called wrongly, and says which flag, what it got and what it wants. Runs the real
// program.

#include <stdio.h>
#include <sys/wait.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/service_main.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

struct Ended {
  int exit_code = -1;
  std::string output;
};

// Runs it with `flags`, which need no shell's quotes, and with good values of those that have no
// default. The token file does not exist: with good flags the program ends there.
Ended RunScheduler(const std::string& flags) {
  const std::string folder = ::testing::TempDir();
  std::string required;
  for (const std::string& flag :
       {absl::StrCat("--data_folder=", folder, "/scheduler_flags"),
        std::string("--store_address=127.0.0.1:1"), std::string("--registry_address=127.0.0.1:1"),
        absl::StrCat("--token_file=", folder, "/no_such_token")}) {
    const std::string name = flag.substr(0, flag.find('=') + 1);
    if (!absl::StrContains(flags, name)) absl::StrAppend(&required, flag, " ");
  }
  const std::string command =
      absl::StrCat("services/scheduler/scheduler --metrics_address= ", required, flags, " 2>&1");
  Ended ended;
  FILE* program = popen(command.c_str(), "r");
  if (program == nullptr) return ended;
  char buffer[4096];
  while (const size_t got = fread(buffer, 1, sizeof(buffer), program)) {
    ended.output.append(buffer, got);
  }
  const int status = pclose(program);
  if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
  return ended;
}

TEST(SchedulerFlagsTest, WhatIsBeyondABoundIsRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--data_folder=", "--data_folder is empty, want a folder"},
      {"--store_address=nowhere", "--store_address"},
      {"--registry_address=nowhere", "--registry_address"},
      {"--lease_duration=1s", "--lease_duration is 1s, want 2s..1h"},
      {"--lease_duration=inf", "--lease_duration is inf, want 2s..1h"},
      {"--checkpoint_interval=999ms", "--checkpoint_interval is 999ms, want 1s..24h"},
      {"--checkpoint_interval=25h", "--checkpoint_interval is 25h, want 1s..24h"},
      {"--yield_grace=0s", "--yield_grace is 0, want 1s..24h"},
      {"--yield_grace=inf", "--yield_grace is inf, want 1s..24h"},
      {"--preempt_after=-1s", "--preempt_after"},
      {"--numerics_class_patience=-1s", "--numerics_class_patience"},
      {"--database_bytes_max=-1", "--database_bytes_max is -1, want 0 (no bound) or >= 1048576"},
      {"--database_bytes_max=4095", "--database_bytes_max is 4095, want 0"},
      {"--database_bytes_max=1048575", "--database_bytes_max is 1048575, want 0"},
      {"--active_jobs_max=0", "--active_jobs_max is 0, want >= 1"},
      {"--attempts_per_worker=0", "--attempts_per_worker is 0, want 1..256"},
      {"--cohort_gain_min=0.99", "--cohort_gain_min is 0.99, want >= 1"},
      {"--cohort_slowdown_max=nan", "--cohort_slowdown_max is nan, want >= 1"},
      {"--cohort_floor=nobody", "want any, tenant or alone"},
      {"--archive_after=-1s", "--archive_after"},
      {"--job_retention=-1s", "--job_retention"},
      {"--max_overtake=-1s", "--max_overtake"},
      {"--fair_share_half_life=1s", "--fair_share_half_life is 1s, want >= 1m"},
      {"--attempts_per_worker=257", "--attempts_per_worker is 257, want 1..256"},
      {"--incidents_until_quarantine=-1", "--incidents_until_quarantine is -1, want 0..2147483647"},
      {"--quarantine_first=0s", "--quarantine_first is 0, want >= 1s"},
      {"--quarantine_max=9m", "--quarantine_max is 9m, want >= 10m"},
      {"--device_hour_price=-1", "--device_hour_price is -1, want >= 0"},
      {"--device_hour_price=nan", "--device_hour_price is nan, want >= 0"},
      {"--deaths_until_poison=-1", "--deaths_until_poison is -1, want 0..2147483647"},
      // Its lower 32 bits would be 0: never.
      {"--deaths_until_poison=4294967296", "--deaths_until_poison is 4294967296, want 0.."},
      {"--preemption=perhaps", "--preemption"},
      {"--watches_max=0", "--watches_max is 0, want >= 1"},
      {"--snapshot_events=0", "--snapshot_events is 0, want >= 1"},
  };
  for (const auto& [flag, message] : cases) {
    const Ended ended = RunScheduler(flag);
    EXPECT_EQ(ended.exit_code, kExitUsage) << flag << "\n" << ended.output;
    EXPECT_THAT(ended.output, HasSubstr(message)) << flag;
  }
}

TEST(SchedulerFlagsTest, WhatIsJustWithinTheBoundsIsTaken) {
  for (const char* flags :
       {"", "--lease_duration=2s --checkpoint_interval=1s --yield_grace=1s --preempt_after=0s",
        "--numerics_class_patience=0s --database_bytes_max=0 --active_jobs_max=1",
        "--attempts_per_worker=1 --deaths_until_poison=0 --watches_max=1 --snapshot_events=1",
        "--database_bytes_max=1048576 --attempts_per_worker=256 --deaths_until_poison=2147483647",
        "--preemption=false",
        "--cohort_gain_min=1 --cohort_slowdown_max=1 --cohort_floor=alone --max_overtake=0s",
        "--archive_after=0s --job_retention=0s"}) {
    const Ended ended = RunScheduler(flags);
    EXPECT_THAT(ended.output, HasSubstr("no_such_token")) << flags;
    EXPECT_NE(ended.exit_code, kExitStopped) << flags;
  }
}

}  // namespace
}  // namespace deltaworks::services
