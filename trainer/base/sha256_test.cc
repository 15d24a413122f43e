#include "trainer/base/sha256.h"

#include <string>

#include "gtest/gtest.h"

namespace deltaworks {
namespace {

// FIPS 180-4, example "abc".
constexpr char kDigestOfAbc[] =
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Sha256Test, KnownAnswer) { EXPECT_EQ(Sha256Digest("abc"), kDigestOfAbc); }

TEST(Sha256Test, AStreamGivesTheDigestOfTheWhole) {
  Sha256Stream stream;
  stream.Update("a");
  stream.Update("");
  stream.Update("bc");
  EXPECT_EQ(stream.Finish(), kDigestOfAbc);
}

TEST(Sha256Test, OnlyTheFullFormIsADigest) {
  EXPECT_TRUE(IsSha256Digest(kDigestOfAbc));
  EXPECT_FALSE(IsSha256Digest(""));
  EXPECT_FALSE(IsSha256Digest("sha256:abc"));
  EXPECT_FALSE(IsSha256Digest(std::string("md5:") + std::string(64, 'a')));
  EXPECT_FALSE(IsSha256Digest(std::string("sha256:") + std::string(64, 'A')));
}

}  // namespace
}  // namespace deltaworks
