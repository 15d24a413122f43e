// What `dw status` says about jobs, of a platform that is this test: its state, a server that
// answers for the scheduler, and jobs in memory.

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/metrics.h"
#include "services/base/server.h"
#include "services/cli/exit_code.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/platform_state.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

class StatusCommandTest : public ::testing::Test {
 protected:
  StatusCommandTest() : world_("status") {
    layout_.home = world_.Path("home");
    EXPECT_TRUE(MakeHome(layout_).ok());
    auto server = Server::Start({}, authenticator_, metrics_, RealClock(), {});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->SetServing(true);
    state_ = {.phase = PlatformPhase::kUp,
              .supervisor_pid = getpid(),
              .supervisor_start_ticks = StartTicksOf(getpid()),
              .processes = {{.name = "scheduler",
                             .phase = ProcessPhase::kUp,
                             .pid = getpid(),
                             .address = server_->address()}}};
  }

  void AddJob(const std::string& name, v1::JobState state) {
    v1::Job& job = world_.training.jobs[name];
    job.set_name(name);
    job.mutable_status()->set_state(state);
  }

  Json Status(int code) {
    EXPECT_TRUE(WritePlatformState(layout_.StateFile(), state_).ok());
    const CliWorld::Result result =
        world_.Run({"status", "--home", layout_.home, "--output", "json"});
    EXPECT_EQ(result.code, code) << result.err;
    const auto json = ParseJson(result.out, "status");
    EXPECT_TRUE(json.ok()) << json.status() << result.out;
    return json.value_or(Json::object());
  }

  CliWorld world_;
  PlatformLayout layout_;
  Metrics metrics_{"test"};
  Authenticator authenticator_{/*tokens=*/nullptr, metrics_};
  std::unique_ptr<Server> server_;
  PlatformState state_;
};

TEST_F(StatusCommandTest, JobsThatRunAndJobsThatWaitAreCountedApart) {
  int number = 0;
  for (const v1::JobState state :
       {v1::RUNNING, v1::PAUSING, v1::CANCELLING, v1::VALIDATING, v1::QUEUED, v1::FINALIZING,
        v1::PAUSED, v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}) {
    AddJob(absl::StrCat("tenants/default/jobs/job-", ++number), state);
  }
  AddJob("tenants/other/jobs/job-1", v1::RUNNING);
  const Json report = Status(kExitOk);
  EXPECT_EQ(report["processes"][0]["health"], "serving");
  EXPECT_EQ(report["jobs"]["running"], 3);
  EXPECT_EQ(report["jobs"]["waiting"], 3);
}

TEST_F(StatusCommandTest, WithoutASchedulerThatServesNoCountIsClaimed) {
  AddJob("tenants/default/jobs/job-1", v1::RUNNING);
  state_.processes[0].phase = ProcessPhase::kRestarting;
  const Json report = Status(kExitBadOutcome);
  EXPECT_EQ(report["processes"][0]["health"], "restarting");
  EXPECT_TRUE(report["jobs"].is_null()) << report["jobs"];
}

}  // namespace
}  // namespace deltaworks::services
