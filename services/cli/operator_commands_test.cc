// What an operator types: modes of workers, quotas that keep what no flag says, usage by day.

#include <sys/stat.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/exit_code.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class OperatorCommandsTest : public ::testing::Test {
 protected:
  OperatorCommandsTest() : world_("operator") { world_.Fill(); }

  v1::Worker& worker() { return world_.training.workers[0]; }
  CliWorld::Result Run(const std::string& words) { return world_.Run(absl::StrSplit(words, ' ')); }
  // The one line of `out` with `word` in it, its cells joined by one space.
  static std::string Line(const std::string& out, const std::string& word) {
    for (const absl::string_view line : absl::StrSplit(out, '\n')) {
      if (!absl::StrContains(line, word)) continue;
      return absl::StrJoin(std::vector<std::string>(absl::StrSplit(line, ' ', absl::SkipEmpty())),
                           " ");
    }
    return "";
  }

  CliWorld world_;
};

// ---- Workers ----

TEST_F(OperatorCommandsTest, TheListShowsTheModeAndAColourWhereItIsNotTheUsualOne) {
  EXPECT_THAT(Line(Run("worker list").out, "box-cpu-0"), HasSubstr("box-cpu-0 online active"));
  ASSERT_EQ(Run("worker cordon box-cpu-0").code, kExitOk);
  EXPECT_EQ(worker().mode(), v1::WORKER_CORDONED);
  EXPECT_THAT(Line(Run("worker list").out, "box-cpu-0"), HasSubstr("online cordoned"));
  ASSERT_EQ(Run("worker drain workers/box-cpu-0").code, kExitOk);
  world_.terminal = true;
  EXPECT_THAT(Run("worker list").out, HasSubstr("\x1b[33mdrained\x1b[0m"));
  EXPECT_THAT(Run("worker list --output json").out, HasSubstr("\"mode\": \"WORKER_DRAINED\""));
  ASSERT_EQ(Run("worker uncordon box-cpu-0").code, kExitOk);
  EXPECT_EQ(worker().mode(), v1::WORKER_ACTIVE);
}

TEST_F(OperatorCommandsTest, ADrainWaitsUntilTheWorkerHoldsNoJob) {
  worker().set_job_count(2);
  std::vector<int> counts = {0, 1, 2};  // From the end.
  world_.while_asleep = [&] {
    worker().set_job_count(counts.back());
    counts.pop_back();
  };
  const CliWorld::Result result = Run("worker drain box-cpu-0 --wait");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_TRUE(counts.empty());
  EXPECT_EQ(result.out, "box-cpu-0 is drained and holds no job\n");
  EXPECT_EQ(result.err, "box-cpu-0 holds 2 jobs\nbox-cpu-0 holds 1 job\n");
  EXPECT_THAT(world_.interrupt_note, HasSubstr("dw worker drain box-cpu-0 --wait"));
}

TEST_F(OperatorCommandsTest, ADrainThatIsTakenBackIsNotWaitedFor) {
  world_.while_asleep = [&] { worker().set_mode(v1::WORKER_ACTIVE); };
  const CliWorld::Result result = Run("worker drain box-cpu-0 --wait");
  EXPECT_EQ(result.code, kExitRefused);
  EXPECT_THAT(result.err, HasSubstr("workers/box-cpu-0 is active, want drained"));
  EXPECT_EQ(result.out, "");
}

TEST_F(OperatorCommandsTest, AWorkerThatNoListHasIsAskedForByTheSameRequestAgain) {
  world_.operators.unlisted["workers/gone"] = 2;
  int waits = 0;
  world_.while_asleep = [&] { world_.operators.unlisted["workers/gone"] = 2 - ++waits; };
  const CliWorld::Result result = Run("worker drain gone --wait --output json");
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(waits, 2);
  EXPECT_EQ(result.err, "gone holds 2 jobs\ngone holds 1 job\n");
  const auto json = ParseJson(result.out, "out");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ((*json)["mode"], "WORKER_DRAINED");
  EXPECT_EQ((*json)["leaving"], 2);  // As they were told.
}

// ---- Quotas ----

TEST_F(OperatorCommandsTest, WhatNoFlagSaysStaysAndTheEtagIsThatWhichWasRead) {
  ASSERT_EQ(Run("quota set team-a --weight 0.5").code, kExitOk);
  const v1::Quota& sent = world_.operators.quota_request.quota();
  EXPECT_EQ(sent.name(), "tenants/team-a/quota");
  EXPECT_EQ(sent.weight(), 0.5);
  EXPECT_EQ(sent.guaranteed_devices(), 4);
  EXPECT_EQ(sent.limit_devices(), 16);
  EXPECT_EQ(sent.etag(), "7");
  EXPECT_FALSE(world_.operators.quota_request.force());

  ASSERT_EQ(Run("quota set team-a --limit none --guaranteed 9 --force").code, kExitOk);
  EXPECT_EQ(sent.weight(), 0.5);
  EXPECT_EQ(sent.guaranteed_devices(), 9);
  EXPECT_FALSE(sent.has_limit_devices());
  EXPECT_EQ(sent.etag(), "7+");
  EXPECT_TRUE(world_.operators.quota_request.force());

  const CliWorld::Result fresh = Run("quota set tenants/team-b --limit 0");
  ASSERT_EQ(fresh.code, kExitOk) << fresh.err;
  EXPECT_TRUE(sent.has_limit_devices());
  EXPECT_EQ(sent.limit_devices(), 0);
  EXPECT_EQ(sent.etag(), "");
  EXPECT_EQ(Line(fresh.out, "weight"), "weight 1");
  EXPECT_EQ(Line(Run("quota list").out, "team-a"), "team-a 0.5 9 none");
  EXPECT_EQ(Line(Run("quota list").out, "team-b"), "team-b 1 0 0");
}

TEST_F(OperatorCommandsTest, AQuotaSomebodyElseChangedIsNotOverwritten) {
  world_.operators.change_failure = absl::AbortedError("quota.etag is \"7\", want \"8\"");
  const CliWorld::Result result = Run("quota set team-a --weight 5");
  EXPECT_EQ(result.code, kExitRefused);
  EXPECT_THAT(result.err, HasSubstr("want \"8\""));
}

TEST_F(OperatorCommandsTest, WrongFlagsOfAQuotaAreNamedAndNothingIsAsked) {
  world_.up = false;  // That is seen later.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"quota set team-a", "nothing to set, want one of --weight, --guaranteed, --limit"},
      {"quota set team-a --weight 0", "--weight is 0, want > 0"},
      {"quota set team-a --weight nan", "--weight is nan, want > 0"},
      {"quota set team-a --limit some", "--limit is \"some\", want an integer >= 0, or none"},
      {"quota set team-a --limit=-1", "--limit is \"-1\", want"},
      {"quota set Team --weight 1", "TENANT is \"Team\""},
  };
  for (const auto& [words, message] : cases) {
    const CliWorld::Result result = Run(words);
    EXPECT_EQ(result.code, kExitWrongUse) << words;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
}

// ---- Usage ----

class UsageTest : public OperatorCommandsTest {
 protected:
  UsageTest() {
    world_.operators.usage.clear();
    AddUsage("default", 0, 5'400'000, 1'200'000);
    AddUsage("team-a", 0, 60'000, 5);
    AddUsage("default", 1, 1'800'000, 300'000);
    AddUsage("default", 29, 1'000, 7);
    AddUsage("default", 30, 1'000, 8);
  }
  // So many days before 2024-01-01, today.
  void AddUsage(const std::string& tenant, int days_ago, int64_t device_ms, int64_t tokens) {
    v1::UsageDay& row = world_.operators.usage.emplace_back();
    row.set_tenant(absl::StrCat("tenants/", tenant));
    row.mutable_day()->set_seconds(absl::ToUnixSeconds(world_.clock.Now()) - days_ago * 86'400);
    row.set_device_ms(device_ms);
    row.set_tokens(tokens);
    row.set_written_bytes(tokens << 10);
  }
};

TEST_F(UsageTest, ThirtyDaysOfOneTenantWithTheirSum) {
  const CliWorld::Result result = Run("usage");
  ASSERT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out,
            "DAY         TENANT   DEVICE TIME     TOKENS   WRITTEN\n"
            "2024-01-01  default   1 h 30 min  1,200,000    1.2 GB\n"
            "2023-12-31  default   30 min 0 s    300,000  307.2 MB\n"
            "2023-12-03  default        1.0 s          7    7.2 kB\n"
            "total                  2 h 0 min  1,500,007    1.5 GB\n");
}

TEST_F(UsageTest, TheDaysAndTheTenantsThatWereAskedFor) {
  // What was asked: parent and first day.
  const auto asked = [&](const std::string& words) {
    EXPECT_EQ(Run(words).code, kExitOk) << words;
    const v1::ListUsageRequest& request = world_.operators.usage_request;
    EXPECT_EQ(request.last_day(), 0);
    return absl::StrCat(request.parent(), " ", request.first_day());
  };
  constexpr int kToday = 19'723;
  EXPECT_EQ(asked("usage --days 1"), absl::StrCat("tenants/default ", kToday));
  EXPECT_EQ(asked("usage --all_tenants --days 400"), absl::StrCat("tenants/- ", kToday - 399));
  EXPECT_EQ(asked("usage --tenant team-a --since 2023-12-31"),
            absl::StrCat("tenants/team-a ", kToday - 1));
  world_.clock.Advance(absl::Hours(24) - absl::Seconds(1));
  EXPECT_EQ(asked("usage --days 1"), absl::StrCat("tenants/default ", kToday));
  world_.clock.Advance(absl::Seconds(1));
  EXPECT_EQ(asked("usage --days 1"), absl::StrCat("tenants/default ", kToday + 1));
}

TEST_F(UsageTest, APriceAddsCostsForPeopleAndPrograms) {
  const CliWorld::Result table = Run("usage --all_tenants --days 2 --price_per_device_hour 2.5");
  ASSERT_EQ(table.code, kExitOk) << table.err;
  EXPECT_EQ(Line(table.out, "2023-12-31"), "2023-12-31 default 30 min 0 s 300,000 307.2 MB 1.25");
  EXPECT_EQ(Line(table.out, "team-a"), "2024-01-01 team-a 1 min 0 s 5 5.1 kB 0.04");
  EXPECT_EQ(Line(table.out, "total"), "total 2 h 1 min 1,500,005 1.5 GB 5.04");
  const CliWorld::Result result = Run("usage --days 2 --price_per_device_hour 2.5 --output json");
  const auto json = ParseJson(result.out, "out");
  ASSERT_TRUE(json.ok()) << json.status() << result.err;
  ASSERT_EQ((*json)["days"].size(), 2);
  EXPECT_EQ((*json)["days"][0]["cost"], 3.75);
  EXPECT_EQ((*json)["days"][0]["device_ms"], "5400000");
  EXPECT_EQ((*json)["days"][0]["day"], "2024-01-01T00:00:00Z");
  EXPECT_EQ((*json)["days"][1]["cost"], 1.25);
  const auto free = ParseJson(Run("usage --output json").out, "out");
  ASSERT_TRUE(free.ok()) << free.status();
  for (const auto& day : (*free)["days"]) EXPECT_EQ(day["cost"], 0) << "no price is set";
  EXPECT_THAT(Run("usage").out, Not(HasSubstr("COST")));
}

TEST_F(UsageTest, ThePriceOfTheSchedulerIsShownUnlessAnotherIsGiven) {
  for (v1::UsageDay& row : world_.operators.usage) {
    row.set_cost(static_cast<double>(row.device_ms()) / 3'600'000 * 2);
  }
  EXPECT_EQ(Line(Run("usage").out, "total"), "total 2 h 0 min 1,500,007 1.5 GB 4.00");
  EXPECT_EQ(Line(Run("usage --price_per_device_hour 1").out, "total"),
            "total 2 h 0 min 1,500,007 1.5 GB 2.00");
}

TEST_F(UsageTest, WrongFlagsAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"usage --days 401", "--days is 401, want 1..400"},
      {"usage --since yesterday", "--since is \"yesterday\", want a day since 1970-01-01"},
      {"usage --since 1969-12-31", "--since is \"1969-12-31\", want"},
      {"usage --since 2023-12-31 --days 2", "--days and --since are given"},
      {"usage --price_per_device_hour=-1", "--price_per_device_hour is -1, want >= 0"},
      {"usage --price_per_device_hour inf", "--price_per_device_hour is inf, want >= 0"},
  };
  for (const auto& [words, message] : cases) {
    const CliWorld::Result result = Run(words);
    EXPECT_EQ(result.code, kExitWrongUse) << words;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
}

// ---- The operator's token ----

TEST_F(OperatorCommandsTest, ATenantsTokenIsRefusedWithWhatIsWanted) {
  world_.operators.caller.tenant = "default";
  for (const char* words : {"worker cordon box-cpu-0", "worker drain box-cpu-0 --wait",
                            "usage --tenant team-a", "quota set team-a --weight 1"}) {
    const CliWorld::Result result = Run(words);
    EXPECT_EQ(result.code, kExitRefused) << words;
    EXPECT_THAT(result.err, HasSubstr("--operator_token_file")) << words;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_THAT(Run("worker cordon box-cpu-0").err, HasSubstr("the token given is a tenant's"));
  // Its own it may see.
  for (const char* words : {"usage", "usage --all_tenants", "quota list"}) {
    const CliWorld::Result result = Run(words);
    EXPECT_EQ(result.code, kExitOk) << words << result.err;
    EXPECT_THAT(result.out, Not(HasSubstr("team-a")));
  }
}

TEST_F(OperatorCommandsTest, AnOperatorsTokenThatCannotBeReadIsNamedWithWhatIsWanted) {
  world_.up = false;  // The real clients, which read the file before they ask anybody.
  world_.environment["DELTAWORKS_SCHEDULER"] = "127.0.0.1:1";
  ASSERT_TRUE(WriteFileAtomically(world_.Path("open.token"), "secret").ok());
  ASSERT_EQ(chmod(world_.Path("open.token").c_str(), 0644), 0);
  for (const char* words : {"worker cordon w", "quota list", "usage"}) {
    world_.environment["DELTAWORKS_OPERATOR_TOKEN_FILE"] = world_.Path("absent.token");
    const CliWorld::Result absent = Run(words);
    EXPECT_EQ(absent.code, kExitNotFound) << absent.err;
    EXPECT_THAT(absent.err, HasSubstr("the operator's token cannot be read: "));
    EXPECT_THAT(absent.err, HasSubstr("absent.token"));
    EXPECT_THAT(absent.err, HasSubstr("on the machine of `dw up`"));
    const CliWorld::Result open = Run(absl::StrCat(words, " --operator_token_file {}/open.token"));
    EXPECT_EQ(open.code, kExitRefused) << open.err;
    EXPECT_THAT(open.err, HasSubstr("mode is 0644, want 0600"));
  }
  // Other commands do without it.
  world_.environment["DELTAWORKS_TOKEN_FILE"] = world_.Path("absent.too");
  EXPECT_THAT(Run("worker list").err, Not(HasSubstr("operator's token")));
}

}  // namespace
}  // namespace deltaworks::services
