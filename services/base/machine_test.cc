#include "services/base/machine.h"

#include <unistd.h>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MachineTest, CoresAreNumbersFromZero) {
  EXPECT_THAT(*ParseCores({"0", "12"}), ElementsAre(0, 12));
  for (const char* wrong : {"-1", "two", ""}) {
    const auto cores = ParseCores({"0", wrong});
    ASSERT_TRUE(absl::IsInvalidArgument(cores.status())) << wrong;
    EXPECT_THAT(std::string(cores.status().message()), HasSubstr("want numbers from 0"));
  }
}

TEST(MachineTest, ThreadsAreAsManyAsTheCoresGivenOrTheMachineHas) {
  EXPECT_EQ(ThreadsFor({4, 5, 6}), 3);
  EXPECT_GE(ThreadsFor({}), 1);
}

TEST(MachineTest, MemoryIsAtMostThatOfTheMachine) {
  EXPECT_GT(MemoryOfThisProcess(), 0);
  EXPECT_LE(MemoryOfThisProcess(),
            static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE));
}

}  // namespace
}  // namespace deltaworks::services
