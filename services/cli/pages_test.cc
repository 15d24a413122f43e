// A list is right if no row is missing or twice, whatever the pages are, and its token goes on
// where it ends.

#include "services/cli/pages.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/deltaworks/v1/training_service.pb.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;

// Jobs "0", "1", ...; a token is the number of the first job after it.
class Pages {
 public:
  Pages(int64_t count, int64_t page_max) : count_(count), page_max_(page_max) {}

  absl::StatusOr<v1::ListJobsResponse> List(int64_t limit, const std::string& token = "") {
    sizes.clear();
    v1::ListJobsRequest request;
    request.set_page_token(token);
    return ListAll(
        request, limit, [this](const auto& page) { return Page(page); },
        [](auto& response) { return response.mutable_jobs(); });
  }

  // That were asked for.
  std::vector<int64_t> sizes;
  // The page that begins there has a token and no rows: one that leads on, or to itself; -1: none.
  int64_t empty_at = -1, stuck_at = -1;

 private:
  absl::StatusOr<v1::ListJobsResponse> Page(const v1::ListJobsRequest& request) {
    sizes.push_back(request.page_size());
    if (sizes.size() > 100) return absl::InternalError("does not end");
    int64_t next = 0;
    EXPECT_TRUE(request.page_token().empty() || absl::SimpleAtoi(request.page_token(), &next));
    v1::ListJobsResponse response;
    const bool is_empty = next == empty_at && request.page_token() != Again(next);
    const int64_t size =
        is_empty || next == stuck_at ? 0 : std::min<int64_t>(request.page_size(), page_max_);
    for (const int64_t end = std::min(next + size, count_); next < end; ++next) {
      response.add_jobs()->set_name(absl::StrCat(next));
    }
    if (next < count_) response.set_next_page_token(is_empty ? Again(next) : absl::StrCat(next));
    return response;
  }

  // Another token for the same place.
  static std::string Again(int64_t next) { return absl::StrCat("0", next); }

  const int64_t count_, page_max_;
};

TEST(ListAllTest, EveryPageIsThereAndNoToken) {
  Pages pages(/*count=*/2'500, /*page_max=*/1'000);
  const auto all = pages.List(kListLimitMax);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->jobs_size(), 2'500);
  for (int i = 0; i < all->jobs_size(); ++i) ASSERT_EQ(all->jobs(i).name(), absl::StrCat(i));
  EXPECT_EQ(all->next_page_token(), "");
  EXPECT_THAT(pages.sizes, ElementsAre(1'000, 1'000, 1'000));
}

TEST(ListAllTest, TheTokenOfAListThatEndsWithinAPageGoesOnAfterItsLastRow) {
  Pages pages(/*count=*/10, /*page_max=*/4);
  const auto some = pages.List(6);
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->jobs_size(), 6);
  EXPECT_EQ(some->next_page_token(), "6");
  EXPECT_THAT(pages.sizes, ElementsAre(6, 2)) << "no more than is wanted";
  const auto rest = pages.List(6, some->next_page_token());
  ASSERT_TRUE(rest.ok()) << rest.status();
  ASSERT_EQ(rest->jobs_size(), 4);
  EXPECT_EQ(rest->jobs(0).name(), "6");
  EXPECT_EQ(rest->next_page_token(), "");
}

TEST(ListAllTest, ALimitThatIsTheLastRowHasNoToken) {
  Pages pages(/*count=*/6, /*page_max=*/4);
  EXPECT_EQ(pages.List(6)->next_page_token(), "");
}

TEST(ListAllTest, AnEmptyPageIsNotTheEnd) {
  Pages pages(/*count=*/10, /*page_max=*/4);
  pages.empty_at = 4;
  const auto all = pages.List(100);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->jobs_size(), 10);
  EXPECT_EQ(all->next_page_token(), "");
}

TEST(ListAllTest, ATokenThatLeadsToItselfDoesNotKeepUsAndIsHandedOn) {
  Pages pages(/*count=*/10, /*page_max=*/4);
  pages.stuck_at = 4;
  const auto some = pages.List(100);
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->jobs_size(), 4);
  EXPECT_EQ(some->next_page_token(), "4") << "there are more";
}

TEST(ListAllTest, ALimitOutOfBoundsIsWrongUse) {
  Pages pages(10, 4);
  for (const int64_t limit : {int64_t{-1}, int64_t{0}, kListLimitMax + 1}) {
    EXPECT_TRUE(absl::IsInvalidArgument(pages.List(limit).status())) << limit;
  }
  EXPECT_TRUE(pages.sizes.empty());
}

}  // namespace
}  // namespace deltaworks::services
