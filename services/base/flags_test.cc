// The four places a setting comes from, in their order, and the errors each of them can make.

#include "services/base/flags.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FlagsTest : public ::testing::Test {
 protected:
  FlagsTest() {
    flags_.Add("address", &address_, "where to listen");
    flags_.Add("uploads_max", &uploads_max_, "open uploads of a tenant");
    flags_.Add("share", &share_, "a share");
    flags_.Add("verbose", &verbose_, "say more");
    flags_.Add("stop_deadline", &deadline_, "time to stop");
    flags_.Add("import_folder", &folders_, "may be imported from");
  }
  ~FlagsTest() override {
    for (const char* name : {"ADDRESS", "UPLOADS_MAX", "IMPORT_FOLDER", "CONFIG", "VERBOSE"}) {
      unsetenv((std::string("DELTAWORKS_STORE_") + name).c_str());
    }
  }
  absl::StatusOr<bool> Parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "store");
    return flags_.Parse(static_cast<int>(arguments.size()), arguments.data());
  }
  std::string Config(const std::string& text) {
    const std::string path = ::testing::TempDir() + "/flags.toml";
    EXPECT_TRUE(WriteFileAtomically(path, text).ok());
    return "--config=" + path;
  }

  FlagSet flags_{"store", "Keeps blobs."};
  std::string address_ = "127.0.0.1:0";
  int64_t uploads_max_ = 100;
  double share_ = 0.5;
  bool verbose_ = false;
  absl::Duration deadline_ = absl::Seconds(10);
  std::vector<std::string> folders_;
};

TEST_F(FlagsTest, DefaultsStayWithoutAnyValue) {
  ASSERT_TRUE(*Parse({}));
  EXPECT_EQ(address_, "127.0.0.1:0");
  EXPECT_EQ(uploads_max_, 100);
}

TEST_F(FlagsTest, EveryTypeIsParsed) {
  const auto result = Parse({"--address=[::1]:7", "--uploads_max", "7", "--share=0.25", "--verbose",
                             "--stop_deadline=1m30s", "--import_folder=/a", "--import_folder=/b"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(address_, "[::1]:7");
  EXPECT_EQ(uploads_max_, 7);
  EXPECT_EQ(share_, 0.25);
  EXPECT_TRUE(verbose_);
  EXPECT_EQ(deadline_, absl::Seconds(90));
  EXPECT_THAT(folders_, ElementsAre("/a", "/b"));
}

TEST_F(FlagsTest, AnEmptyValueIsAValueAndTakesNothingOfWhatFollows) {
  const auto result = Parse({"--address=", "--uploads_max=7"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(address_, "");
  EXPECT_EQ(uploads_max_, 7);
}

TEST_F(FlagsTest, TheCommandLineBeatsTheEnvironmentWhichBeatsTheFile) {
  const std::string config =
      Config("address = \"file\"\nuploads_max = 1\nstop_deadline = \"3s\"\n");
  setenv("DELTAWORKS_STORE_ADDRESS", "environment", 1);
  setenv("DELTAWORKS_STORE_UPLOADS_MAX", "2", 1);
  const auto result = Parse({config.c_str(), "--address=line"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(address_, "line");
  EXPECT_EQ(uploads_max_, 2);
  EXPECT_EQ(deadline_, absl::Seconds(3));
}

TEST_F(FlagsTest, TheFileMayHaveSectionsOfManyServices) {
  const std::string config = Config(
      "uploads_max = 1\nother_flag = 2\nverbose = true\n[scheduler]\nuploads_max = 3\n"
      "[store]\nuploads_max = 4\nimport_folder = [\"/x\", \"/y\"]\n");
  const auto result = Parse({config.c_str()});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(uploads_max_, 4);
  EXPECT_TRUE(verbose_);
  EXPECT_THAT(folders_, ElementsAre("/x", "/y"));
}

TEST_F(FlagsTest, ListsInTheEnvironmentAreSeparatedByCommas) {
  setenv("DELTAWORKS_STORE_IMPORT_FOLDER", "/a,/b", 1);
  ASSERT_TRUE(*Parse({}));
  EXPECT_THAT(folders_, ElementsAre("/a", "/b"));
}

TEST_F(FlagsTest, AWrongValueSaysWhereItCameFrom) {
  auto result = Parse({"--uploads_max=many"});
  ASSERT_TRUE(absl::IsInvalidArgument(result.status()));
  EXPECT_EQ(result.status().message(), "--uploads_max is \"many\", want an integer");

  setenv("DELTAWORKS_STORE_VERBOSE", "maybe", 1);
  result = Parse({});
  EXPECT_EQ(result.status().message(), "DELTAWORKS_STORE_VERBOSE is \"maybe\", want true or false");
}

TEST_F(FlagsTest, UnknownNamesAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Parse({"--adress=x"}).status()));
  const std::string config = Config("[store]\nadress = \"x\"\n");
  const auto result = Parse({config.c_str()});
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("[store] has adress"));
}

TEST_F(FlagsTest, AMissingFileIsNamed) {
  const auto result = Parse({"--config=/absent/file"});
  EXPECT_EQ(result.status().message(), "config is /absent/file: not readable");
}

TEST_F(FlagsTest, HelpListsFlagsDefaultsAndTheOrderOfPlaces) {
  const auto result = Parse({"--help"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(*result);
  EXPECT_THAT(flags_.output(), HasSubstr("--stop_deadline"));
  EXPECT_THAT(flags_.output(), HasSubstr("default 10s"));
  EXPECT_THAT(flags_.output(), HasSubstr("DELTAWORKS_STORE_FLAG"));
}

TEST_F(FlagsTest, VersionIsTold) {
  EXPECT_FALSE(*Parse({"--version"}));
  EXPECT_THAT(flags_.output(), HasSubstr("deltaworks store 0."));
}

}  // namespace
}  // namespace deltaworks::services
