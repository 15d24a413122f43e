#include "services/base/log.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/json_escape.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class LogTest : public ::testing::Test {
 protected:
  LogTest() {
    before_ = SetLogWriter([this](absl::string_view line) { lines_.emplace_back(line); });
    ConfigureLog("store", LogLevel::kInfo);
  }
  ~LogTest() override { SetLogWriter(before_); }

  std::vector<std::string> lines_;
  LogWriter before_;
};

TEST(LogLineTest, ALineIsOneJsonObjectWithItsFields) {
  EXPECT_EQ(
      FormatLogLine(absl::FromUnixMicros(1'704'067'200'000'123), LogLevel::kWarning, "store",
                    "disk is \"nearly\" full\n",
                    {{"job", "tenants/t/jobs/j"}, {"free_bytes", int64_t{17}}, {"share", 0.5}}),
      "{\"time\":\"2024-01-01T00:00:00.000123Z\",\"level\":\"warning\",\"service\":\"store\","
      "\"message\":\"disk is \\\"nearly\\\" full\\n\",\"job\":\"tenants/t/jobs/j\","
      "\"free_bytes\":17,\"share\":0.5}\n");
}

TEST(LogLineTest, HostileTextStaysOneValidLine) {
  std::string hostile = "\x01\x7f\xff\xc0\xaf\xed\xa0\x80 \xe2\x82\xac \"},\n{\"";
  hostile.push_back('\0');
  const std::string line =
      FormatLogLine(absl::UnixEpoch(), LogLevel::kInfo, "s", hostile, {{"k", hostile}});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto parsed = ParseJson(line, "line");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT((*parsed)["message"].get<std::string>(), HasSubstr("\xe2\x82\xac"));
}

TEST(LogLineTest, ALongValueIsCut) {
  const std::string line = FormatLogLine(absl::UnixEpoch(), LogLevel::kInfo, "s", "m",
                                         {{"k", std::string(1 << 20, 'x')}});
  EXPECT_LT(line.size(), 20'000u);
}

TEST(LogLineTest, NumbersReadBackAndInfinitiesAreNull) {
  EXPECT_EQ(JsonNumber(0.1), "0.1");
  EXPECT_EQ(JsonNumber(1e300 * 1e300), "null");
}

TEST_F(LogTest, WhatIsBelowTheLevelIsNotWritten) {
  LogDebug("no");
  LogInfo("yes");
  EXPECT_THAT(lines_, SizeIs(1));
  ConfigureLog("store", LogLevel::kError);
  LogWarning("no");
  EXPECT_THAT(lines_, SizeIs(1));
}

TEST(LogLevelTest, NamesAreParsed) {
  LogLevel level = LogLevel::kInfo;
  EXPECT_TRUE(ParseLogLevel("error", level));
  EXPECT_EQ(level, LogLevel::kError);
  EXPECT_FALSE(ParseLogLevel("loud", level));
}

}  // namespace
}  // namespace deltaworks::services
