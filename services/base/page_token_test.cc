#include "services/base/page_token.h"

#include "gtest/gtest.h"
#include "proto/deltaworks/v1/store_service.pb.h"

namespace deltaworks::services {
namespace {

v1::ListPinsRequest Request(int size, const std::string& token) {
  v1::ListPinsRequest request;
  request.set_parent("tenants/t");
  request.set_page_size(size);
  request.set_page_token(token);
  return request;
}

TEST(PageTest, SizesFollowTheRules) {
  EXPECT_EQ(Page::Of(Request(0, ""))->size, 100);
  EXPECT_EQ(Page::Of(Request(7, ""))->size, 7);
  EXPECT_EQ(Page::Of(Request(1'000'000, ""))->size, 1000);
  EXPECT_TRUE(absl::IsInvalidArgument(Page::Of(Request(-1, "")).status()));
}

TEST(PageTest, ATokenCarriesTheCursorAndAllowsAnotherSize) {
  const std::string cursor("key\0with bytes\xff", 15);
  const std::string token = Page::Of(Request(10, ""))->NextToken(cursor);
  const auto next = Page::Of(Request(20, token));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->cursor, cursor);
}

TEST(PageTest, ATokenOfAnotherRequestIsRefused) {
  v1::ListPinsRequest other = Request(10, Page::Of(Request(10, ""))->NextToken("key"));
  other.set_owner_prefix("tenants/t/jobs/");
  EXPECT_TRUE(absl::IsInvalidArgument(Page::Of(other).status()));
}

TEST(PageTest, NoiseIsRefused) {
  for (const std::string& token :
       {std::string("x"), std::string("!!!!"), std::string(100'000, 'A'), std::string("QUJD")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Page::Of(Request(1, token)).status())) << token.size();
  }
}

}  // namespace
}  // namespace deltaworks::services
