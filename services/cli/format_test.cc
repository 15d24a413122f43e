// Numbers, times and tables as people see them, at the places where the words change.

#include "services/cli/format.h"

#include <cmath>
#include <limits>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/table.h"

namespace deltaworks::services {
namespace {

TEST(FormatTest, CountsHaveCommas) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(1000), "1,000");
  EXPECT_EQ(CountText(134'515'008), "134,515,008");
  EXPECT_EQ(CountText(-100), "-100");
  EXPECT_EQ(CountText(-1234), "-1,234");
}

TEST(FormatTest, SizesHaveTheUnitThatGivesTwoOrThreeDigits) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(999), "999 B");
  EXPECT_EQ(BytesText(1000), "1.0 kB");
  EXPECT_EQ(BytesText(999'949), "999.9 kB");
  EXPECT_EQ(BytesText(999'950), "1.0 MB");
  EXPECT_EQ(BytesText(93'400'000), "93.4 MB");
  EXPECT_EQ(BytesText(std::numeric_limits<int64_t>::max()), "9.2 EB");
}

TEST(FormatTest, DurationsHaveTwoUnits) {
  EXPECT_EQ(DurationText(absl::Milliseconds(4'290)), "4.2 s");
  EXPECT_EQ(DurationText(absl::Milliseconds(9'999)), "9.9 s");
  EXPECT_EQ(DurationText(absl::Seconds(59)), "59 s");
  EXPECT_EQ(DurationText(absl::Seconds(125)), "2 min 5 s");
  EXPECT_EQ(DurationText(absl::Seconds(3 * 3600 + 10 * 60 + 59)), "3 h 10 min");
  EXPECT_EQ(DurationText(absl::Hours(52)), "2 d 4 h");
  EXPECT_EQ(DurationText(-absl::Seconds(59)), "-59 s");
}

TEST(FormatTest, AgesAreRoundedDownAndNeverNegative) {
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  EXPECT_EQ(AgeText(absl::InfinitePast(), now), "-");
  EXPECT_EQ(AgeText(now + absl::Seconds(5), now), "now");
  EXPECT_EQ(AgeText(now - absl::Seconds(59), now), "59 s ago");
  EXPECT_EQ(AgeText(now - absl::Seconds(3599), now), "59 min ago");
  EXPECT_EQ(AgeText(now - absl::Hours(47), now), "1 d ago");
  EXPECT_EQ(ToTime(google::protobuf::Timestamp()), absl::InfinitePast());
}

TEST(FormatTest, SharesKeepTwoPlacesThatMean) {
  EXPECT_EQ(PercentText(4'608, 32'768), "14.1 %");
  EXPECT_EQ(PercentText(460'800, 134'515'008), "0.34 %");
  EXPECT_EQ(PercentText(12, 800), "1.50 %");
  EXPECT_EQ(PercentText(0, 800), "0.0 %");
  EXPECT_EQ(PercentText(1, 0), "-");
}

TEST(SparklineTest, HeightsAreScaledBetweenLeastAndGreatest) {
  EXPECT_EQ(Sparkline({4, 3, 2, 1}, 10), "█▆▃▁");
  EXPECT_EQ(Sparkline({1, 2, 3, 4, 5, 6, 7, 8}, 8), "▁▂▃▄▅▆▇█");
}

TEST(SparklineTest, MoreValuesThanCellsAreAveragedInBuckets) {
  EXPECT_EQ(Sparkline({0, 2, 7, 9}, 2), Sparkline({1, 8}, 2));
  std::vector<double> many(10'000);
  for (size_t i = 0; i < many.size(); ++i) many[i] = -static_cast<double>(i);
  EXPECT_EQ(DisplayWidth(Sparkline(many, 60)), 60);
}

TEST(SparklineTest, EqualNoAndInfiniteValuesDoNoHarm) {
  EXPECT_EQ(Sparkline({}, 10), "");
  EXPECT_EQ(Sparkline({1, 2}, 0), "");
  EXPECT_EQ(DisplayWidth(Sparkline({3, 3, 3}, 10)), 3);
  EXPECT_EQ(Sparkline({NAN, 1, INFINITY, 2}, 10), "▁█");
}

TEST(FormatTest, AProgressBarIsAlwaysAsLong) {
  EXPECT_EQ(ProgressBar(0, 4), "░░░░");
  EXPECT_EQ(ProgressBar(0.5, 4), "██░░");
  EXPECT_EQ(ProgressBar(7, 4), "████");
  EXPECT_EQ(ProgressBar(NAN, 4), "░░░░");
}

TEST(FormatTest, TextIsCutByCellsNotBytes) {
  EXPECT_EQ(DisplayWidth("näh █"), 5);
  EXPECT_EQ(CutToWidth("näh █", 5), "näh █");
  EXPECT_EQ(CutToWidth("näh █", 3), "nä…");
  EXPECT_EQ(CutToWidth("abc", 1), "…");
  EXPECT_EQ(CutToWidth("abc", 0), "");
}

TEST(FormatTest, NamesAreShortened) {
  EXPECT_EQ(ShortName("tenants/default/jobs/job-7"), "job-7");
  EXPECT_EQ(ShortName(""), "");
  EXPECT_EQ(ShortVersion("tenants/t/adapters/notes/versions/3"), "notes/3");
  EXPECT_EQ(ShortVersion("tenants/t/adapters/notes/aliases/best"), "notes@best");
}

TEST(TableTest, ColumnsAreAlignedNumbersToTheRight) {
  Table table({"NAME", ">SIZE", "NOTE"});
  table.AddRow({"a", "1", "x"});
  table.AddRow({"böb", "1,000", ""});
  std::ostringstream out;
  table.Print(out, /*color=*/false);
  EXPECT_EQ(out.str(),
            "NAME   SIZE  NOTE\n"
            "a         1  x\n"
            "böb   1,000\n");
}

TEST(TableTest, ColoursDoNotMoveColumnsAndAreAbsentWithoutATerminal) {
  Table table({"A", "B"});
  table.AddRow({{"red", Paint::kRed}, "x"});
  std::ostringstream plain, colored;
  table.Print(plain, false);
  table.Print(colored, true);
  EXPECT_EQ(plain.str(), "A    B\nred  x\n");
  EXPECT_THAT(colored.str(), ::testing::HasSubstr("\x1b[31mred\x1b[0m  x"));
}

TEST(TableTest, NamesFromAfarCannotMoveTheCursor) {
  Table table({"A"});
  table.AddRow({"evil\x1b[2J\nname"});
  std::ostringstream out;
  table.Print(out, false);
  EXPECT_EQ(out.str(), "A\nevil [2J name\n");
  EXPECT_EQ(SafeText("a\x1b[2Jb\r\n\tc"), "a?[2Jb?\n\tc");
}

TEST(TableTest, TheSecondSetOfControlCharactersIsNoWayAround) {
  // C1 is U+0080 to U+009F; U+009B is ESC [ in one. A letter may have the same second byte.
  EXPECT_EQ(SafeText("a\u009b2Jb\u0080\u009f\u00a0é \u2019"), "a?2Jb??\u00a0é \u2019");
  EXPECT_EQ(SafeText("cut \xc2"), "cut \xc2");
  Table table({"A"});
  table.AddRow({"x\u009b2Jy"});
  std::ostringstream out;
  table.Print(out, false);
  EXPECT_EQ(out.str(), "A\nx 2Jy\n");
}

}  // namespace
}  // namespace deltaworks::services
