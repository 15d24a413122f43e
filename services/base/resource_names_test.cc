#include "services/base/resource_names.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/random_id.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ResourceIdTest, TheRulesOfCommonProtoHold) {
  for (const char* good : {"a", "1", "job-1", "0a", "abc-def-0"}) EXPECT_TRUE(IsResourceId(good));
  EXPECT_TRUE(IsResourceId(std::string(63, 'x')));
  for (const char* bad : {"", "-a", "a-", "A", "a_b", "a/b", "a.b", "\xc3\xa4", " "}) {
    EXPECT_FALSE(IsResourceId(bad)) << bad;
  }
  EXPECT_FALSE(IsResourceId(std::string(64, 'x')));
}

TEST(ResourceIdTest, ARefusalSaysFieldGotAndWant) {
  const absl::Status status = CheckResourceId("dataset_id", "My Data");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("dataset_id is \"My Data\", want 1-63"));
}

TEST(ResourceNameTest, IdsComeInTheOrderOfThePattern) {
  const auto ids = ParseName("name", "tenants/t/adapters/a/versions/12", kVersionPattern);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(*ids, ElementsAre("t", "a", "12"));
}

TEST(ResourceNameTest, WhatDoesNotMatchIsNamed) {
  for (const std::string& bad :
       {std::string("tenants/t/jobs"), std::string("tenants/t/jobs/"), std::string(),
        std::string("tenants/t/jobs/j/"), std::string("tenants//jobs/j"),
        std::string("tenants/t/datasets/j"), std::string("tenants/t/jobs/../x"),
        std::string(1'000'000, '/')}) {
    const auto ids = ParseName("name", bad, kJobPattern);
    ASSERT_TRUE(absl::IsInvalidArgument(ids.status())) << bad;
    EXPECT_THAT(std::string(ids.status().message()), HasSubstr("want tenants/{tenant}/jobs/{job}"));
    EXPECT_LT(ids.status().message().size(), 400u);
  }
}

TEST(ResourceNameTest, TheTenantOfAnyNameIsFound) {
  EXPECT_EQ(TenantOf("tenants/default/jobs/j"), "default");
  EXPECT_EQ(TenantOf("tenants/default"), "default");
  EXPECT_EQ(TenantOf("workers/w"), "");
  EXPECT_EQ(TenantOf("tenants/Bad Name/jobs/j"), "");
}

TEST(ResourceNameTest, NamesAreBuilt) {
  EXPECT_EQ(TenantName("t"), "tenants/t");
  EXPECT_EQ(TenantResourceName("t", "datasets", "d"), "tenants/t/datasets/d");
}

TEST(FieldTest, TextIsBoundedAndPrintable) {
  EXPECT_TRUE(CheckText("display_name", "Grüße\n", 256).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckText("display_name", std::string(257, 'x'), 256)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckText("display_name", "\x1b[2J", 256)));
}

TEST(FieldTest, RequestIdsAndDigestsAreChecked) {
  EXPECT_TRUE(CheckRequestId("").ok());
  EXPECT_TRUE(CheckRequestId("4f1c-...").ok());
  EXPECT_FALSE(CheckRequestId(std::string(65, 'x')).ok());
  EXPECT_FALSE(CheckRequestId("a\nb").ok());
  EXPECT_TRUE(CheckDigest("digest", "sha256:" + std::string(64, 'a')).ok());
  EXPECT_FALSE(CheckDigest("digest", "sha256:abc").ok());
}

TEST(RandomIdTest, IdsAreValidAndDiffer) {
  const std::string id = RandomResourceId("ds-");
  EXPECT_TRUE(IsResourceId(id)) << id;
  EXPECT_NE(id, RandomResourceId("ds-"));
  EXPECT_EQ(RandomHexId().size(), 32u);
}

}  // namespace
}  // namespace deltaworks::services
