#include "services/base/library_logs.h"

#include <grpc/support/log.h>

#include <string>
#include <vector>

#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(LibraryLogsTest, LinesOfLibrariesTakeTheFormOfOurs) {
  std::vector<std::string> lines;
  SetLogWriter([&](absl::string_view line) { lines.emplace_back(line); });
  RouteLibraryLogs("library_logs_test");
  LOG(WARNING) << "from glog";
  gpr_log("a/b/transport.cc", 7, GPR_LOG_SEVERITY_ERROR, "from gRPC");
  gpr_log("a/b/transport.cc", 8, GPR_LOG_SEVERITY_INFO, "below the level");
  SetLogWriter(nullptr);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], HasSubstr("\"level\":\"warning\""));
  EXPECT_THAT(lines[0], HasSubstr("\"message\":\"from glog\",\"source\":\"library_logs_test.cc:"));
  EXPECT_THAT(lines[1], HasSubstr("\"message\":\"from gRPC\",\"source\":\"grpc transport.cc:7\""));
}

}  // namespace
}  // namespace deltaworks::services
