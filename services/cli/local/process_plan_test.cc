// The plan, read literally: a service's flag that is renamed must be renamed here.

#include "services/cli/local/process_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

PlanOptions TwoCores() {
  PlanOptions options;
  options.layout.home = "/h";
  options.cores = {0, 1};
  options.memory_bytes = 1000;
  return options;
}

std::vector<std::string> Names(const std::vector<ProcessSpec>& plan) {
  std::vector<std::string> names;
  for (const ProcessSpec& spec : plan) names.push_back(spec.name + " " + spec.address);
  return names;
}

TEST(ProcessPlanTest, EveryProcessWithItsArguments) {
  const auto plan = MakePlan(TwoCores());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Names(*plan), ElementsAre("store 127.0.0.1:7002", "registry 127.0.0.1:7003",
                                        "scheduler 127.0.0.1:7001", "inference 127.0.0.1:7004",
                                        "worker-cpu-0 127.0.0.1:7010"));
  EXPECT_THAT((*plan)[0].arguments, ElementsAre("--data_folder=/h/data/store",
                                                "--tokens_file=/h/tokens", "--stop_deadline=5s"));
  EXPECT_THAT((*plan)[1].arguments,
              ElementsAre("--data_folder=/h/data/registry", "--store_address={store}",
                          "--token_file=/h/platform_token", "--tokens_file=/h/tokens",
                          "--stop_deadline=5s"));
  EXPECT_THAT((*plan)[2].arguments,
              ElementsAre("--data_folder=/h/data/scheduler", "--store_address={store}",
                          "--registry_address={registry}", "--token_file=/h/platform_token",
                          "--tokens_file=/h/tokens", "--stop_deadline=5s"));
  EXPECT_THAT((*plan)[3].arguments,
              ElementsAre("--store_address={store}", "--registry_address={registry}",
                          "--token_file=/h/platform_token", "--cache_folder=/h/cache",
                          "--threads=2", "--tokens_file=/h/tokens", "--stop_deadline=5s"));
  EXPECT_THAT((*plan)[4].arguments,
              ElementsAre("--scheduler_address={scheduler}", "--store_address={store}",
                          "--token_file=/h/platform_token", "--cache_folder=/h/cache",
                          "--device=cpu:0", "--gang_address=127.0.0.1", "--threads=2",
                          "--tokens_file=/h/tokens", "--stop_deadline=45s"));
  EXPECT_EQ((*plan)[4].metrics_address, "127.0.0.1:7110");
  EXPECT_EQ((*plan)[4].service, "worker");
}

TEST(ProcessPlanTest, WorkersAreNicerAndStopFirst) {
  const auto plan = MakePlan(TwoCores());
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (size_t i = 0; i + 1 < plan->size(); ++i) {
    EXPECT_LT((*plan)[i].stop_rank, (*plan)[i + 1].stop_rank);
    EXPECT_LT((*plan)[i].nice, plan->back().nice);
    EXPECT_LT((*plan)[i].stop_timeout, plan->back().stop_timeout);
  }
}

TEST(ProcessPlanTest, TwoWorkersShareCoresAndMemory) {
  PlanOptions options = TwoCores();
  options.devices = {"cpu:0", "cpu:1"};
  const auto plan = MakePlan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->size(), 6);
  EXPECT_THAT((*plan)[4].arguments, Contains("--cores=0"));
  EXPECT_THAT((*plan)[4].arguments, Contains("--threads=1"));
  EXPECT_THAT((*plan)[5].arguments, Contains("--cores=1"));
  EXPECT_THAT((*plan)[5].arguments, Contains("--device=cpu:1"));
  EXPECT_THAT((*plan)[5].arguments, Contains("--memory_bytes=375"));
  EXPECT_EQ((*plan)[5].name, "worker-cpu-1");
  EXPECT_EQ((*plan)[5].address, "127.0.0.1:7011");
  EXPECT_EQ((*plan)[4].stop_rank, (*plan)[5].stop_rank);
}

TEST(ProcessPlanTest, OneWorkerIsBoundToCoresOnlyIfItDoesNotGetAll) {
  PlanOptions options = TwoCores();
  options.cores = {3};
  options.all_cores = false;
  const auto plan = MakePlan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->back().arguments, Contains("--cores=3"));
  EXPECT_THAT(plan->back().arguments, Not(Contains(StartsWith("--memory_bytes"))));
}

TEST(ProcessPlanTest, PortBaseZeroTakesFreePorts) {
  PlanOptions options = TwoCores();
  options.port_base = 0;
  const auto plan = MakePlan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const ProcessSpec& spec : *plan) {
    EXPECT_EQ(spec.address, "127.0.0.1:0");
    EXPECT_EQ(spec.metrics_address, "127.0.0.1:0");
  }
}

TEST(ProcessPlanTest, SettingsGoToTheirServiceAlone) {
  PlanOptions options = TwoCores();
  options.settings = {{"scheduler.lease_duration", "5s"}};
  const auto plan = MakePlan(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const ProcessSpec& spec : *plan) {
    EXPECT_EQ(spec.arguments.back() == "--lease_duration=5s", spec.service == "scheduler");
  }
}

TEST(ProcessPlanTest, WhatIsWrongIsNamed) {
  const auto refused = [](auto change) {
    PlanOptions options = TwoCores();
    change(options);
    const auto plan = MakePlan(options);
    EXPECT_TRUE(absl::IsInvalidArgument(plan.status()));
    return std::string(plan.status().message());
  };
  EXPECT_THAT(refused([](auto& o) { o.devices = {"tpu:0"}; }),
              HasSubstr("--train has \"tpu:0\", want cpu:N or cuda:N"));
  EXPECT_THAT(refused([](auto& o) { o.devices = {"cpu"}; }), HasSubstr("want cpu:N"));
  EXPECT_THAT(refused([](auto& o) { o.devices = {"cpu:1", "cpu:1"}; }), HasSubstr("twice"));
  EXPECT_THAT(refused([](auto& o) { o.devices.assign(65, "cpu:0"); }), HasSubstr("65 devices"));
  EXPECT_THAT(refused([](auto& o) { o.port_base = 80; }), HasSubstr("--port_base is 80, want 0"));
  EXPECT_THAT(refused([](auto& o) { o.port_base = 65500; }), HasSubstr("65500"));
  EXPECT_THAT(refused([](auto& o) {
                o.settings = {{"gateway.x", "1"}};
              }),
              HasSubstr("want SERVICE.FLAG=VALUE with one of store, registry"));
  EXPECT_THAT(refused([](auto& o) { o.settings = {{"store.", "1"}}; }), HasSubstr("\"store.\""));
}

TEST(ShareCoresTest, SharesAreContiguousAndAsEqualAsCanBe) {
  EXPECT_THAT(ShareCores({0, 1, 2, 3}, 2), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_THAT(ShareCores({4, 5, 6}, 2), ElementsAre(ElementsAre(4), ElementsAre(5, 6)));
  EXPECT_THAT(ShareCores({0, 1}, 1), ElementsAre(ElementsAre(0, 1)));
  EXPECT_THAT(ShareCores({7}, 2), ElementsAre(ElementsAre(7), ElementsAre(7)));
}

TEST(FillAddressesTest, KnownNamesAreReplacedAndOthersStay) {
  EXPECT_EQ(FillAddresses("--a={store} {b}", {{"store", "h:1"}}), "--a=h:1 {b}");
}

}  // namespace
}  // namespace deltaworks::services
