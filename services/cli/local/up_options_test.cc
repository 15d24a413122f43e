// What `dw up` was told is what `dw supervise` hears, and what cannot be is said before anything
// runs.

#include "services/cli/local/up_options.h"

#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/machine.h"
#include "services/cli/local/service_binaries.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Sets the declared arguments from "--name=value" words, as the parser does.
UpOptions FromWords(const std::vector<std::string>& words) {
  UpOptions options;
  Arguments arguments;
  options.Declare(arguments);
  std::map<std::string, std::vector<std::string>> values;
  for (const std::string& word : words) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
    values[parts.first].push_back(parts.second);
  }
  for (const Argument& argument : arguments.all()) {
    const auto found = values.find("--" + argument.name);
    if (found == values.end()) continue;
    EXPECT_TRUE(SetArgument(argument, found->second).ok());
    values.erase(found);
  }
  EXPECT_TRUE(values.empty()) << values.begin()->first;
  return options;
}

// A folder with a program for each name.
std::string Programs(const std::vector<std::string>& names) {
  std::string folder = ::testing::TempDir() + "/bin.XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  for (const std::string& name : names) {
    const std::string path = folder + "/" + name;
    EXPECT_TRUE(MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    EXPECT_TRUE(WriteFileAtomically(path, "#!/bin/sh\n").ok());
    EXPECT_EQ(chmod(path.c_str(), 0755), 0);
  }
  return folder;
}

TEST(UpOptionsTest, TheSupervisorHearsWhatUpWasTold) {
  UpOptions told;
  told.train = {"cpu:0", "cpu:3"};
  told.threads = 1;
  told.port_base = 9000;
  told.bin_folder = "/b";
  told.settings = {{"worker.lock_folder", "/l"}, {"scheduler.lease_duration", "5s"}};
  told.start_timeout = absl::Milliseconds(1500);
  const UpOptions heard = FromWords(told.Words());
  EXPECT_EQ(heard.train, told.train);
  EXPECT_EQ(heard.threads, 1);
  EXPECT_EQ(heard.port_base, 9000);
  EXPECT_EQ(heard.bin_folder, "/b");
  EXPECT_EQ(heard.settings, told.settings);
  EXPECT_EQ(heard.start_timeout, told.start_timeout);
}

TEST(UpOptionsTest, TheHomeBecomesAbsolute) {
  EXPECT_EQ(LayoutOf("/a/b/../c/")->home, "/a/c");
  char* const here = getcwd(nullptr, 0);
  EXPECT_EQ(LayoutOf("x")->home, std::string(here) + "/x");
  free(here);
  EXPECT_TRUE(absl::IsInvalidArgument(LayoutOf("").status()));
}

TEST(UpOptionsTest, ProgramsOfOneFolderAreFound) {
  UpOptions options;
  options.bin_folder = Programs({"store", "registry", "scheduler", "inference", "worker"});
  const auto plan = PlanForThisMachine(options, {"/h"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const ProcessSpec& spec : *plan) {
    EXPECT_EQ(spec.binary, options.bin_folder + "/" + spec.service);
  }
}

TEST(UpOptionsTest, WorkersShareThreeQuartersOfTheMemoryThatThisProcessMayUse) {
  UpOptions options;
  options.bin_folder = Programs({"store", "registry", "scheduler", "inference", "worker"});
  options.train = {"cpu:0", "cpu:1"};
  const auto plan = PlanForThisMachine(options, {"/h"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->back().arguments,
              Contains(absl::StrCat("--memory_bytes=", MemoryOfThisProcess() / 4 * 3 / 2)));
}

TEST(UpOptionsTest, MoreThreadsThanCoresAreRefused) {
  UpOptions options;
  options.threads = 100'000;
  const auto plan = PlanForThisMachine(options, {"/h"});
  EXPECT_TRUE(absl::IsInvalidArgument(plan.status()));
  EXPECT_THAT(plan.status().message(), HasSubstr("--threads is 100000, want 1.."));
}

TEST(ServiceBinariesTest, BesideDwOrInBazelsOutput) {
  const std::string together = Programs({"dw", "store"});
  EXPECT_EQ(*FindServiceBinary("store", "", together + "/dw"), together + "/store");
  const std::string bazel = Programs({"cli/dw", "store/store"});
  EXPECT_EQ(*FindServiceBinary("store", "", bazel + "/cli/dw"), bazel + "/store/store");
}

TEST(ServiceBinariesTest, AMissingProgramIsNamedWithThePlacesTried) {
  const std::string folder = Programs({"cli/dw"});
  const auto path = FindServiceBinary("store", "", folder + "/cli/dw");
  EXPECT_TRUE(absl::IsNotFound(path.status()));
  EXPECT_THAT(path.status().message(),
              AllOf(HasSubstr(folder + "/cli/store"), HasSubstr(folder + "/store/store"),
                    HasSubstr("--bin_folder")));
}

TEST(ServiceBinariesTest, ThisProgramKnowsItself) {
  EXPECT_THAT(*OwnBinary(), HasSubstr("up_options_test"));
}

}  // namespace
}  // namespace deltaworks::services
