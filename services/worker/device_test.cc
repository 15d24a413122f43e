// What a worker tells of its device, and which settings are refused, with what they should be.

#include "services/worker/device.h"

#include <sched.h>

#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/machine.h"
#include "trainer/backend/cuda/cuda_backend.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

TEST(DeviceTest, ADeviceTellsWhatPlacementAsksAndNamesTheNumericsOfBothComputeTypes) {
  const auto device =
      OpenDevice({.device = "cpu:3", .threads = 2, .labels = {"zone=a", "note=x=y"}});
  ASSERT_TRUE(device.ok()) << device.status();
  const v1::WorkerEnvironment& environment = device->environment;
  EXPECT_EQ(environment.device(), "cpu:3");
  EXPECT_EQ(environment.device_kind(), "cpu");
  EXPECT_TRUE(absl::EndsWith(environment.device_description(), ", 2 threads"));
  EXPECT_EQ(environment.labels().at("zone"), "a");
  EXPECT_EQ(environment.labels().at("note"), "x=y");
  EXPECT_LE(environment.numerics_class().size(), 256u);
  for (const trainer::DType type : {trainer::DType::kF32, trainer::DType::kBF16}) {
    const auto backend = device->compute.new_backend(type);
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->compute_type(), type);
    EXPECT_THAT(environment.numerics_class(), HasSubstr((*backend)->numerics_class()));
  }
}

TEST(DeviceTest, MemoryIsThreeQuartersOfWhatTheProcessMayHaveUnlessItIsSet) {
  EXPECT_EQ(OpenDevice({.threads = 1})->environment.memory_bytes(), MemoryOfThisProcess() / 4 * 3);
  EXPECT_EQ(OpenDevice({.threads = 1, .memory_bytes = 4096})->environment.memory_bytes(), 4096);
}

TEST(DeviceTest, ThreadsAreAsManyAsTheCoresGiven) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  int core = 0;
  while (!CPU_ISSET(core, &allowed)) ++core;
  const auto device = OpenDevice({.cores = {absl::StrCat(core)}});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_TRUE(absl::EndsWith(device->environment.device_description(), ", 1 threads"));
}

TEST(DeviceTest, SettingsThatAreWrongAreRefusedWithTheSettingAndWhatIsWanted) {
  const std::pair<DeviceSettings, const char*> cases[] = {
      {{.device = "tpu:0"}, "device is \"tpu:0\", want cpu:N or cuda:N"},
      {{.device = "cuda:-1"}, "device is \"cuda:-1\", want cpu:N or cuda:N"},
      {{.device = "auto"}, "device is \"auto\", want cpu:N or cuda:N"},
      {{.threads = -1}, "threads is -1, want 0..1024"},
      {{.threads = 5000}, "threads is 5000, want 0..1024"},
      {{.threads = 1, .cores = {"0", "two"}}, "cores has \"two\", want numbers from 0"},
      {{.threads = 1, .cores = {"-1"}}, "cores has \"-1\", want numbers from 0"},
      {{.threads = 1, .memory_bytes = -1}, "memory_bytes is -1, want at least 0"},
      {{.threads = 1, .labels = {"zone"}}, "labels has \"zone\", want KEY=VALUE"},
      {{.threads = 1, .labels = {"=a"}}, "labels has \"=a\", want KEY=VALUE"},
      {{.threads = 1, .labels = std::vector<std::string>(65, "a=b")},
       "labels are 65, want at most 64"},
  };
  for (const auto& [settings, want] : cases) {
    const absl::Status status = OpenDevice(settings).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(want));
  }
}

// What a machine without a GPU can show of one: that the same program says why, and does without.
TEST(DeviceTest, AGpuThatCannotBeUsedIsNamedWithTheReasonAndAutoTakesTheCores) {
  const auto cards = trainer::FindCudaDevices();
  const auto device = OpenDevice({.device = "cuda:0"});
  ASSERT_EQ(device.ok(), cards.ok()) << device.status();
  EXPECT_EQ(ChooseDevice("auto"), cards.ok() ? "cuda:0" : "cpu:0");
  EXPECT_EQ(ChooseDevice("cpu:7"), "cpu:7");
  if (cards.ok()) return;
  EXPECT_TRUE(absl::IsUnavailable(device.status())) << device.status();
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("device is \"cuda:0\", but "));
  EXPECT_THAT(std::string(device.status().message()),
              HasSubstr(std::string(cards.status().message())));
}

TEST(DeviceTest, TheMachineHasAnId) {
  const auto id = MachineId();
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_FALSE(id->empty());
}

}  // namespace
}  // namespace deltaworks::services
