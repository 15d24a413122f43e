// A log is right if nothing of it is lost while there is room, and it never takes more than its
// share.

#include "services/cli/local/rotating_log.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string FreshLog() {
  std::string folder = ::testing::TempDir() + "/log.XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return folder + "/x.log";
}

TEST(RotatingLogTest, TextIsAppendedAlsoByTheNextOne) {
  const std::string path = FreshLog();
  RotatingLog(path).Append("one\n");
  RotatingLog(path).Append("two\n");
  EXPECT_EQ(*ReadFile(path), "one\ntwo\n");
}

TEST(RotatingLogTest, ThreeFilesOfTheLargestSizeAreKept) {
  const std::string path = FreshLog();
  RotatingLog log(path, /*bytes_max=*/8);
  for (int i = 1; i <= 7; ++i) log.Append(absl::StrCat("line", i, "\n"));
  EXPECT_EQ(*ReadFile(path), "line7\n");
  EXPECT_EQ(*ReadFile(path + ".1"), "line5\nline6\n");
  EXPECT_EQ(*ReadFile(path + ".2"), "line3\nline4\n");
  EXPECT_TRUE(absl::IsNotFound(ReadFile(path + ".3").status()));
}

TEST(RotatingLogTest, WhatIsThereAlreadyCounts) {
  const std::string path = FreshLog();
  RotatingLog(path, 8).Append("12345678");
  RotatingLog(path, 8).Append("9");
  EXPECT_EQ(*ReadFile(path), "9");
  EXPECT_EQ(*ReadFile(path + ".1"), "12345678");
}

// While it lives, no file of this process grows beyond `bytes`: as on a full disk, a write that
// reaches the end is cut there, and the next fails.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limit = {bytes, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FullDisk() {
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0);
    signal(SIGXFSZ, handler_);
  }

 private:
  const sighandler_t handler_;
  rlimit before_;
};

TEST(RotatingLogTest, WhatCannotBeWrittenIsDroppedAndTheLogTellsOnceItCanBe) {
  const std::string path = FreshLog();
  RotatingLog log(path);
  {
    const FullDisk disk(8);
    log.Append("one\n");
    log.Append("two and more\n");
    log.Append("three\n");
  }
  EXPECT_EQ(*ReadFile(path), "one\ntwo ");
  log.Append("four\n");
  log.Append("five\n");
  EXPECT_EQ(*ReadFile(path),
            "one\ntwo \n(15 bytes are missing: they could not be written)\nfour\nfive\n");
}

TEST(LogTailTest, TheLastLinesSinceTheLastMark) {
  const std::string path = FreshLog();
  RotatingLog(path).Append("mark 1\nold\nmark 2\na\nb\nc\n");
  EXPECT_THAT(LogTail(path, 20, "mark"), ElementsAre("mark 2", "a", "b", "c"));
  EXPECT_THAT(LogTail(path, 2, "mark"), ElementsAre("b", "c"));
  EXPECT_THAT(LogTail(path, 2, "absent"), ElementsAre("b", "c"));
  EXPECT_THAT(LogTail(path + ".absent", 2, "mark"), IsEmpty());
}

TEST(LogTailTest, OfALargeLogOnlyTheEndIsRead) {
  const std::string path = FreshLog();
  RotatingLog(path).Append(absl::StrCat(std::string(200'000, 'x'), "\nlast\n"));
  EXPECT_THAT(LogTail(path, 20, "mark"), ElementsAre("last"));
}

}  // namespace
}  // namespace deltaworks::services
