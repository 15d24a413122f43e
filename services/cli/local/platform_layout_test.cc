// A home is right if a second `dw up` finds it as it was, and everybody's token works.

#include "services/cli/local/platform_layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/token_file.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

PlatformLayout Fresh() {
  std::string folder = ::testing::TempDir() + "/layout.XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return {folder + "/home"};
}

int ModeOf(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : -1;
}

std::string TenantOf(const PlatformLayout& layout, const std::string& secret_file) {
  const auto tokens = TokenFile::Open(layout.TokensFile());
  const auto secret = ReadSecretFile(secret_file);
  if (!tokens.ok() || !secret.ok()) return "unreadable";
  const auto caller = (*tokens)->Find(*secret);
  return caller.has_value() ? caller->tenant : "unknown";
}

TEST(PlatformLayoutTest, ANewHomeIsItsOwnersAlone) {
  const PlatformLayout layout = Fresh();
  ASSERT_TRUE(MakeHome(layout).ok());
  ASSERT_TRUE(MakeTokens(layout).ok());
  EXPECT_EQ(ModeOf(layout.home), 0700);
  EXPECT_EQ(ModeOf(layout.TokensFile()), 0600);
  EXPECT_EQ(ModeOf(layout.PlatformTokenFile()), 0600);
  EXPECT_EQ(ModeOf(layout.DefaultTokenFile()), 0600);
  EXPECT_EQ(TenantOf(layout, layout.PlatformTokenFile()), "-");
  EXPECT_EQ(TenantOf(layout, layout.DefaultTokenFile()), "default");
  for (const char* service : {"store", "registry", "scheduler"}) {
    EXPECT_NE(ModeOf(layout.DataFolder(service)), -1);
  }
}

TEST(PlatformLayoutTest, ASecondTimeNothingChanges) {
  const PlatformLayout layout = Fresh();
  ASSERT_TRUE(MakeHome(layout).ok());
  ASSERT_TRUE(MakeTokens(layout).ok());
  const std::string tokens = *ReadFile(layout.TokensFile());
  const std::string token = *ReadFile(layout.DefaultTokenFile());
  ASSERT_TRUE(MakeHome(layout).ok());
  ASSERT_TRUE(MakeTokens(layout).ok());
  EXPECT_EQ(*ReadFile(layout.TokensFile()), tokens);
  EXPECT_EQ(*ReadFile(layout.DefaultTokenFile()), token);
}

TEST(PlatformLayoutTest, ATokenThatTheListForgotIsReplaced) {
  const PlatformLayout layout = Fresh();
  ASSERT_TRUE(MakeHome(layout).ok());
  ASSERT_TRUE(MakeTokens(layout).ok());
  const std::string other = *TokenFile::AddToken(layout.TokensFile(), "other");
  ASSERT_EQ(unlink(layout.TokensFile().c_str()), 0);
  ASSERT_TRUE(WriteSecretFile(layout.PlatformTokenFile(), other).ok());
  ASSERT_TRUE(MakeTokens(layout).ok());
  EXPECT_EQ(TenantOf(layout, layout.PlatformTokenFile()), "-");
  EXPECT_EQ(TenantOf(layout, layout.DefaultTokenFile()), "default");
}

TEST(PlatformLayoutTest, ATokenListThatOthersMayReadIsRefused) {
  const PlatformLayout layout = Fresh();
  ASSERT_TRUE(MakeHome(layout).ok());
  ASSERT_TRUE(MakeTokens(layout).ok());
  ASSERT_EQ(chmod(layout.TokensFile().c_str(), 0644), 0);
  const absl::Status status = MakeTokens(layout);
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_THAT(status.message(), HasSubstr("mode is 0644, want 0600"));
}

TEST(PlatformLayoutTest, TheClientFileHasAddressesAndFiles) {
  const PlatformLayout layout = Fresh();
  ASSERT_TRUE(MakeHome(layout).ok());
  ASSERT_TRUE(WriteClientFile(layout, {{"scheduler", "127.0.0.1:1"},
                                       {"store", "127.0.0.1:2"},
                                       {"registry", "127.0.0.1:3"},
                                       {"inference", "127.0.0.1:4"},
                                       {"worker-cpu-0", "127.0.0.1:5"}})
                  .ok());
  const Json expected = {{"scheduler", "127.0.0.1:1"},
                         {"store", "127.0.0.1:2"},
                         {"registry", "127.0.0.1:3"},
                         {"inference", "127.0.0.1:4"},
                         {"token_file", layout.DefaultTokenFile()},
                         {"operator_token_file", layout.PlatformTokenFile()},
                         {"tokens_file", layout.TokensFile()}};
  EXPECT_EQ(*ParseJson(*ReadFile(layout.ClientFile()), "dw.json"), expected);
  RemoveClientFile(layout);
  EXPECT_TRUE(absl::IsNotFound(ReadFile(layout.ClientFile()).status()));
}

}  // namespace
}  // namespace deltaworks::services
