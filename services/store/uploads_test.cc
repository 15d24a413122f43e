// Uploads where two things happen at once: the metadata change between two steps of the code.

#include "services/store/uploads.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/clock.h"
#include "services/base/metrics.h"
#include "services/store/local_blob_store.h"
#include "services/store/metrics.h"
#include "services/store/sqlite_metadata.h"
#include "services/store/store_test_server.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

std::string EmptyFolder() {
  const std::string folder = ::testing::TempDir() + "/uploads";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

TEST(UploadsTest, OneThatIsAskedForAgainWhileOthersExpireIsKept) {
  const std::string folder = EmptyFolder();
  const auto metadata = *SqliteStoreMetadata::Open(folder + "/store.db");
  DiskFaults faults;
  FaultyBlobStore store(*LocalBlobStore::Open(folder + "/blobs"), faults);
  FakeClock clock;
  Metrics all_metrics("store");
  StoreMetrics metrics(all_metrics);
  Blobs blobs(store, *metadata, clock, metrics);
  Uploads uploads(blobs, *metadata, clock, metrics, {.lifetime = absl::Hours(1)});
  const std::string digests[] = {Sha256Digest("a"), Sha256Digest("b")};
  std::vector<std::string> names;
  for (const std::string& digest : digests)
    names.push_back(uploads.Create("t", digest, 1)->row.name);
  clock.Advance(absl::Hours(2));

  // Both are listed as expired. While one is dropped, the other is asked for.
  int other = -1;
  faults.on_drop = [&](const std::string& id) {
    if (other >= 0) return absl::OkStatus();
    other = absl::EndsWith(names[0], id) ? 1 : 0;
    return metadata->BeginUpload("t", digests[other], 1, 10, absl::Hours(1), clock.Now()).status();
  };
  ASSERT_TRUE(uploads.DropExpired(10).ok());
  ASSERT_GE(other, 0);
  EXPECT_TRUE(absl::IsNotFound(uploads.Get(names[1 - other]).status()));
  EXPECT_TRUE(uploads.Get(names[other]).ok()) << "its time is not up any more";
  EXPECT_THAT(all_metrics.Text(),
              ::testing::HasSubstr("deltaworks_store_uploads_expired_total 1\n"));
}

}  // namespace
}  // namespace deltaworks::services
