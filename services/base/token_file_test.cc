#include "services/base/token_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TokenFileTest : public ::testing::Test {
 protected:
  TokenFileTest() {
    unlink(path_.c_str());
    SetLogWriter([this](absl::string_view line) { log_ += std::string(line); });
  }
  ~TokenFileTest() override { SetLogWriter(nullptr); }
  std::string Add(absl::string_view tenant) {
    auto token = TokenFile::AddToken(path_, tenant);
    EXPECT_TRUE(token.ok()) << token.status();
    return *token;
  }
  const std::string path_ = ::testing::TempDir() + "/tokens";
  std::string log_;
};

TEST_F(TokenFileTest, ATokenSpeaksForItsOneTenant) {
  const std::string token = Add("acme");
  auto file = TokenFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto caller = (*file)->Find(token);
  ASSERT_TRUE(caller.has_value());
  EXPECT_EQ(caller->tenant, "acme");
  EXPECT_TRUE(caller->MayUse("acme"));
  EXPECT_FALSE(caller->MayUse("other"));
  EXPECT_FALSE((*file)->Find("dw_guess").has_value());
  EXPECT_FALSE((*file)->Find("").has_value());
  EXPECT_FALSE((*file)->Find(Sha256Digest(token)).has_value());
}

TEST_F(TokenFileTest, ThePlatformsTokenSpeaksForAllTenants) {
  const std::string token = Add("-");
  const auto caller = (*TokenFile::Open(path_))->Find(token);
  ASSERT_TRUE(caller.has_value());
  EXPECT_TRUE(caller->MayUse("acme"));
}

TEST_F(TokenFileTest, TheFileHoldsNoTokenAndOnlyItsOwnerReadsIt) {
  const std::string token = Add("acme");
  EXPECT_THAT(*ReadFile(path_), Not(HasSubstr(token)));
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  const auto file = TokenFile::Open(path_);
  ASSERT_TRUE(absl::IsPermissionDenied(file.status())) << file.status();
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("mode is 0640, want 0600"));
}

TEST_F(TokenFileTest, ATokenAddedOrRemovedCountsFromTheNextCall) {
  const std::string first = Add("acme");
  auto file = *TokenFile::Open(path_);
  const std::string second = Add("other");
  EXPECT_TRUE(file->Find(second).has_value());
  ASSERT_TRUE(WriteSecretFile(path_, "# nobody").ok());
  EXPECT_FALSE(file->Find(first).has_value());
}

TEST_F(TokenFileTest, AWrongFileLeavesTheTokensReadBeforeAndSaysSoOnce) {
  const std::string token = Add("acme");
  auto file = *TokenFile::Open(path_);
  ASSERT_TRUE(WriteSecretFile(path_, "dw_pasted-by-mistake acme").ok());
  EXPECT_TRUE(file->Find(token).has_value());
  EXPECT_THAT(log_, HasSubstr("line 1 is not"));
  EXPECT_THAT(log_, Not(HasSubstr("pasted-by-mistake")));
  log_.clear();
  EXPECT_TRUE(file->Find(token).has_value());
  EXPECT_EQ(log_, "");
}

TEST_F(TokenFileTest, ALineWithoutNewlineIsNotGluedToTheNext) {
  ASSERT_TRUE(WriteSecretFile(path_, "").ok());
  const std::string old_token = "dw_old";
  FILE* out = fopen(path_.c_str(), "w");
  fputs((Sha256Digest(old_token) + " acme").c_str(), out);
  fclose(out);
  const std::string token = Add("other");
  auto file = TokenFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->Find(token).has_value());
  EXPECT_TRUE((*file)->Find(old_token).has_value());
}

TEST_F(TokenFileTest, ABadTenantIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(TokenFile::AddToken(path_, "Not An Id").status()));
}

TEST_F(TokenFileTest, SecretsAreReadBackAndMustBePrivate) {
  ASSERT_TRUE(WriteSecretFile(path_, "dw_secret").ok());
  EXPECT_EQ(*ReadSecretFile(path_), "dw_secret");
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(ReadSecretFile(path_).status()));
}

}  // namespace
}  // namespace deltaworks::services
