// Blobs over a real server: nothing is lost by a cut, a restart or a full disk, and nothing wrong
// is ever taken for right.

#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/clients/blob_transfer.h"
#include "services/store/store_test_server.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr char kJob[] = "tenants/acme/jobs/j";

std::string Noise(int64_t size) {
  std::string data(static_cast<size_t>(size), '\0');
  uint64_t state = 7;
  for (char& byte : data) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return data;
}

class StoreBlobsTest : public ::testing::Test {
 protected:
  explicit StoreBlobsTest(const StoreServer::Options& options = Options())
      : store_("store_blobs", options) {
    SetLogWriter([this](absl::string_view line) { log_ += std::string(line); });
  }
  ~StoreBlobsTest() override { SetLogWriter(nullptr); }

  absl::StatusOr<v1::Upload> Create(const std::string& digest, int64_t size,
                                    const std::string& request_id = "") {
    v1::CreateUploadRequest request;
    request.set_parent("tenants/acme");
    request.set_digest(digest);
    request.set_size_bytes(size);
    request.set_request_id(request_id);
    return store_.client().CreateUpload(request);
  }
  // Sends data[offset, end) in pieces of a MiB, as if that were all.
  absl::StatusOr<v1::Upload> Write(const std::string& name, const std::string& data, int64_t offset,
                                   int64_t end) {
    return store_.client().WriteUpload(name, offset, [&](int64_t at, std::string& piece) {
      piece = data.substr(static_cast<size_t>(at), static_cast<size_t>(std::min(kMiB, end - at)));
      return absl::OkStatus();
    });
  }
  absl::Status Pin(const std::string& owner, const std::string& digest,
                   const std::string& request_id = "") {
    v1::CreatePinRequest request;
    request.mutable_pin()->set_owner(owner);
    request.mutable_pin()->set_digest(digest);
    request.set_request_id(request_id);
    return store_.client().CreatePin(request).status();
  }
  absl::Status Unpin(const std::string& owner, const std::string& digest) {
    v1::DeletePinRequest request;
    request.set_owner(owner);
    request.set_digest(digest);
    return store_.client().DeletePin(request);
  }
  std::vector<std::string> Missing(const std::vector<std::string>& digests) {
    v1::FindMissingBlobsRequest request;
    request.set_parent("tenants/acme");
    for (const std::string& digest : digests) request.add_digests(digest);
    const auto response = store_.client().FindMissingBlobs(request);
    EXPECT_TRUE(response.ok()) << response.status();
    return {response->missing_digests().begin(), response->missing_digests().end()};
  }

  // "deltaworks_store_" before the name is understood.
  void ExpectMetric(const std::string& name, int64_t value) {
    EXPECT_THAT(store_.metrics().Text(),
                HasSubstr(absl::StrCat("\ndeltaworks_store_", name, " ", value, "\n")));
  }

  static StoreServer::Options Options() {
    StoreServer::Options options;
    options.collector.interval = absl::Minutes(10);  // Weeks pass here.
    return options;
  }

  StoreTestServer store_;
  std::string log_;
  const std::string data_ = Noise(3 * kMiB + 17);
  const std::string digest_ = Sha256Digest(data_);
};

// ---- Uploads ----

TEST_F(StoreBlobsTest, WhatIsUploadedIsReadBackWholeAndInRanges) {
  EXPECT_EQ(store_.Upload(data_), digest_);
  EXPECT_EQ(store_.Read(digest_), data_);
  v1::ReadBlobRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(digest_);
  request.set_offset(kMiB - 1);
  request.set_length_bytes(kMiB + 2);
  std::string range;
  ASSERT_TRUE(store_.client()
                  .ReadBlob(request,
                            [&](absl::string_view piece) {
                              EXPECT_LE(static_cast<int64_t>(piece.size()), kMiB);
                              absl::StrAppend(&range, piece);
                              return absl::OkStatus();
                            })
                  .ok());
  EXPECT_EQ(range, data_.substr(kMiB - 1, kMiB + 2));
  ExpectMetric("upload_bytes_total", static_cast<int64_t>(data_.size()));
  ExpectMetric("uploads_finished_total", 1);
  ExpectMetric("read_bytes_total", static_cast<int64_t>(data_.size() + range.size()));
}

TEST_F(StoreBlobsTest, AnEmptyBlobIsABlob) {
  const std::string digest = store_.Upload("");
  EXPECT_EQ(store_.Read(digest), "");
  EXPECT_THAT(Missing({digest}), ElementsAre());
}

TEST_F(StoreBlobsTest, ARangeBeyondTheEndIsOutOfRangeAndTheEndItselfIsEmpty) {
  const std::string digest = store_.Upload("12345");
  v1::ReadBlobRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(digest);
  request.set_offset(5);
  const auto nothing = [](absl::string_view piece) {
    return piece.empty() ? absl::OkStatus() : absl::InternalError("bytes");
  };
  EXPECT_TRUE(store_.client().ReadBlob(request, nothing).ok());
  request.set_offset(6);
  EXPECT_TRUE(absl::IsOutOfRange(store_.client().ReadBlob(request, nothing)));
  request.set_offset(-1);
  EXPECT_TRUE(absl::IsInvalidArgument(store_.client().ReadBlob(request, nothing)));
}

TEST_F(StoreBlobsTest, AnUploadCutInTheMiddleGoesOnAfterARestartWithoutSendingAgain) {
  const auto upload = Create(digest_, data_.size());
  ASSERT_TRUE(upload.ok()) << upload.status();
  const auto half = Write(upload->name(), data_, 0, 2 * kMiB);
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_FALSE(half->done());
  store_.Restart();
  const auto found = store_.client().GetUpload(upload->name());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->committed_size_bytes(), 2 * kMiB);
  const auto again = Create(digest_, data_.size());
  EXPECT_EQ(again->name(), upload->name());
  const auto done = Write(upload->name(), data_, 2 * kMiB, data_.size());
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_TRUE(done->done());
  EXPECT_EQ(store_.Read(digest_), data_);
  EXPECT_TRUE(store_.client().GetUpload(upload->name())->done());
}

TEST_F(StoreBlobsTest, AStreamThatBreaksKeepsWhatHadCome) {
  const auto upload = Create(digest_, data_.size());
  const auto broken =
      store_.client().WriteUpload(upload->name(), 0, [&](int64_t at, std::string& piece) {
        if (at >= 2 * kMiB) return absl::CancelledError("the cable is out");
        piece = data_.substr(static_cast<size_t>(at), kMiB);
        return absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsCancelled(broken.status()));
  // The server notices the cut by itself; the upload is free once it has.
  absl::StatusOr<v1::Upload> done = absl::AbortedError("");
  while (absl::IsAborted(done.status()) || absl::IsOutOfRange(done.status())) {
    const auto now = store_.client().GetUpload(upload->name());
    ASSERT_TRUE(now.ok()) << now.status();
    EXPECT_LE(now->committed_size_bytes(), 2 * kMiB);
    done = Write(upload->name(), data_, now->committed_size_bytes(), data_.size());
  }
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(store_.Read(digest_), data_);
}

TEST_F(StoreBlobsTest, AWrongDigestIsDataLossWithBothAndDropsTheUpload) {
  const std::string wrong = Sha256Digest("something else");
  const auto upload = Create(wrong, data_.size());
  const auto result = Write(upload->name(), data_, 0, data_.size());
  ASSERT_TRUE(absl::IsDataLoss(result.status())) << result.status();
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("digest is " + digest_ + ", want " + wrong));
  EXPECT_TRUE(absl::IsNotFound(store_.client().GetUpload(upload->name()).status()));
  EXPECT_THAT(Missing({wrong, digest_}), ElementsAre(wrong, digest_));
  EXPECT_TRUE(std::filesystem::is_empty(store_.folder() + "/blobs/staged"));
  ExpectMetric("uploads_refused_total", 1);
  ExpectMetric("uploads_finished_total", 0);
}

TEST_F(StoreBlobsTest, AWrongOffsetNamesTheOneWanted) {
  const auto upload = Create(digest_, data_.size());
  ASSERT_TRUE(Write(upload->name(), data_, 0, kMiB).ok());
  for (const int64_t offset : {int64_t{0}, kMiB - 1, kMiB + 1, 2 * kMiB}) {
    const auto result = Write(upload->name(), data_, offset, data_.size());
    ASSERT_TRUE(absl::IsOutOfRange(result.status())) << result.status();
    EXPECT_THAT(std::string(result.status().message()),
                HasSubstr(absl::StrCat("offset is ", offset, ", want ", kMiB)));
  }
}

TEST_F(StoreBlobsTest, MoreBytesThanSaidAreOutOfRange) {
  const auto upload = Create(Sha256Digest("12"), 2);
  const auto result = Write(upload->name(), "123", 0, 3);
  EXPECT_TRUE(absl::IsOutOfRange(result.status())) << result.status();
}

TEST_F(StoreBlobsTest, APieceAboveAMebibyteIsRefused) {
  const auto upload = Create(digest_, data_.size());
  const auto result =
      store_.client().WriteUpload(upload->name(), 0, [&](int64_t, std::string& piece) {
        piece = data_.substr(0, kMiB + 1);
        return absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
}

TEST_F(StoreBlobsTest, TheSecondOfTwoWritersIsAborted) {
  const auto upload = Create(digest_, data_.size());
  grpc::ClientContext context;
  store_.Authorize(context);
  v1::Upload first_result;
  const auto first = store_.stub().WriteUpload(&context, &first_result);
  v1::WriteUploadRequest piece;
  piece.set_name(upload->name());
  piece.set_data(data_.substr(0, kMiB));
  ASSERT_TRUE(first->Write(piece));
  // Once the first writer is in, the second is refused.
  absl::Status second;
  do {
    second = Write(upload->name(), data_, kMiB, kMiB).status();
  } while (absl::IsOutOfRange(second));
  ASSERT_TRUE(absl::IsAborted(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr("another writer is active"));
  piece.set_offset(kMiB);
  piece.set_data("x");
  EXPECT_TRUE(first->Write(piece));
  first->WritesDone();
  EXPECT_TRUE(first->Finish().ok());
  EXPECT_EQ(first_result.committed_size_bytes(), kMiB + 1);
}

TEST_F(StoreBlobsTest, WhatTheTenantHasNeedNotBeSentAndWhatAnotherHasMust) {
  store_.Upload(data_, "other");
  const auto upload = Create(digest_, data_.size());
  EXPECT_FALSE(upload->done()) << "the other tenant's blob must not show";
  store_.Upload(data_, "acme");
  EXPECT_TRUE(Create(digest_, data_.size())->done());
  EXPECT_EQ(std::filesystem::exists(store_.PathOf(digest_, 2)), false) << "stored once";
}

TEST_F(StoreBlobsTest, AnUploadForgetsNothingWhenTheDiskIsFull) {
  const auto upload = Create(digest_, data_.size());
  store_.disk.room = 2 * kMiB + 5;
  const auto full = Write(upload->name(), data_, 0, data_.size());
  ASSERT_TRUE(absl::IsResourceExhausted(full.status())) << full.status();
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("No space left on device"));
  const auto now = store_.client().GetUpload(upload->name());
  EXPECT_EQ(now->committed_size_bytes(), 2 * kMiB);
  store_.disk.room = INT64_MAX;
  ASSERT_TRUE(Write(upload->name(), data_, 2 * kMiB, data_.size()).ok());
  EXPECT_EQ(store_.Read(digest_), data_);
  ExpectMetric("limits_reached_total", 1);
}

TEST_F(StoreBlobsTest, FiveGigabytesCutInTheMiddleCountForNothingAndGoOn) {
  const std::string digest = Sha256Digest("what five gigabytes would have");
  const int64_t size = int64_t{5} << 30;
  const auto upload = Create(digest, size);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_TRUE(Write(upload->name(), data_, 0, 2 * kMiB).ok());
  store_.Restart();
  EXPECT_THAT(Missing({digest}), ElementsAre(digest));
  EXPECT_THAT(store_.Read(digest), StartsWith("NOT_FOUND"));
  EXPECT_TRUE(absl::IsNotFound(Pin(kJob, digest)));
  ExpectMetric("blob_bytes", 0);
  ExpectMetric("uploads_open", 1);
  const std::string id = upload->name().substr(upload->name().rfind('/') + 1);
  EXPECT_EQ(std::filesystem::file_size(store_.folder() + "/blobs/staged/" + id), 2 * kMiB);
  const auto found = Create(digest, size);
  EXPECT_EQ(found->name(), upload->name());
  EXPECT_EQ(found->committed_size_bytes(), 2 * kMiB);
  EXPECT_EQ(Write(upload->name(), data_, 2 * kMiB, 3 * kMiB)->committed_size_bytes(), 3 * kMiB);
}

TEST_F(StoreBlobsTest, AnUploadOfNothingHasTheDigestOfNothing) {
  const absl::Status status = Create(digest_, 0).status();
  ASSERT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("for size_bytes 0"));
}

TEST_F(StoreBlobsTest, AnUploadThatCannotFitIsRefusedAtOnce) {
  store_.disk.room = 1000;
  const auto upload = Create(digest_, 1001);
  ASSERT_TRUE(absl::IsResourceExhausted(upload.status())) << upload.status();
  EXPECT_THAT(std::string(upload.status().message()), HasSubstr("disk is full"));
  store_.Advance(absl::Minutes(11));
  ExpectMetric("uploads_open", 0);
  ExpectMetric("available_bytes", 1000);
  ExpectMetric("collection_duration_seconds_count", 1);
  const auto larger = Create(digest_, int64_t{2} << 40);
  EXPECT_THAT(std::string(larger.status().message()),
              HasSubstr("want at most 1099511627776 (blob_bytes_max)"));
  EXPECT_TRUE(absl::IsInvalidArgument(Create(digest_, -1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Create("sha256:x", 1).status()));
}

TEST_F(StoreBlobsTest, AnUploadWithoutDataExpiresAfterAWeek) {
  const auto upload = Create(digest_, data_.size());
  ASSERT_TRUE(Write(upload->name(), data_, 0, kMiB).ok());
  store_.Advance(absl::Hours(24 * 6));
  EXPECT_TRUE(store_.client().GetUpload(upload->name()).ok());
  store_.Advance(absl::Hours(24 + 1));
  EXPECT_TRUE(absl::IsNotFound(store_.client().GetUpload(upload->name()).status()));
  EXPECT_TRUE(std::filesystem::is_empty(store_.folder() + "/blobs/staged"));
  ExpectMetric("uploads_expired_total", 1);
}

TEST_F(StoreBlobsTest, AFinishedUploadIsForgottenAfterAWeekAndIsNoLoss) {
  store_.Upload(data_);
  ASSERT_TRUE(Pin(kJob, digest_).ok());
  store_.Advance(absl::Hours(24 * 8));
  EXPECT_EQ(store_.Read(digest_), data_);
  ExpectMetric("uploads_expired_total", 0);
}

TEST_F(StoreBlobsTest, ARequestIdBelongsToOneRequest) {
  const auto first = Create(digest_, data_.size(), "id");
  EXPECT_EQ(Create(digest_, data_.size(), "id")->name(), first->name());
  const auto other = Create(Sha256Digest("other"), data_.size(), "id");
  ASSERT_TRUE(absl::IsAlreadyExists(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("digest differs"));
}

TEST_F(StoreBlobsTest, BytesThatACrashLeftWithoutARowAreRemoved) {
  store_.Upload("kept");
  store_.Stop();
  const std::string orphan = store_.PathOf(Sha256Digest("orphan"));
  std::filesystem::create_directories(std::filesystem::path(orphan).parent_path());
  ASSERT_TRUE(WriteFileAtomically(orphan, "orphan").ok());
  ASSERT_TRUE(WriteFileAtomically(store_.folder() + "/blobs/staged/up-zzz", "half").ok());
  store_.Start();
  EXPECT_FALSE(std::filesystem::exists(orphan));
  EXPECT_FALSE(std::filesystem::exists(store_.folder() + "/blobs/staged/up-zzz"));
  EXPECT_EQ(store_.Read(Sha256Digest("kept")), "kept");
}

// ---- Damage ----

TEST_F(StoreBlobsTest, AFlippedByteIsFoundNamedAndReplacedByTheNextUpload) {
  store_.Upload(data_);
  ASSERT_TRUE(Pin(kJob, digest_).ok());
  store_.FlipByte(digest_, kMiB + 3);
  const std::string path = store_.folder() + "/downloaded";
  const absl::Status status =
      DownloadFile(store_.client(), {"acme", kJob}, DescribeBytes("weights", data_), path);
  ASSERT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("weights (" + digest_ + "): chunk at 0"));
  EXPECT_THAT(log_, HasSubstr("a stored blob is damaged"));
  EXPECT_THAT(store_.Read(digest_), StartsWith("NOT_FOUND"));
  EXPECT_THAT(Missing({digest_}), ElementsAre(digest_));

  store_.Upload(data_);
  EXPECT_EQ(store_.Read(digest_, kJob), data_) << "the pin holds the new one";
  EXPECT_TRUE(std::filesystem::exists(store_.PathOf(digest_, 2)));
  EXPECT_TRUE(DownloadFile(store_.client(), {"acme", kJob}, DescribeBytes("w", data_), path).ok());
}

TEST_F(StoreBlobsTest, AReportOfAHealthyBlobChangesNothing) {
  store_.Upload("healthy");
  v1::ReportCorruptBlobRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(Sha256Digest("healthy"));
  request.set_request_id("id");
  const auto response = store_.client().ReportCorruptBlob(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_FALSE(response->confirmed());
  EXPECT_EQ(store_.Read(Sha256Digest("healthy")), "healthy");
}

TEST_F(StoreBlobsTest, ATruncatedOrLostFileIsDataLossFoundByTheStoreItself) {
  store_.Upload(data_);
  std::filesystem::resize_file(store_.PathOf(digest_), 100);
  EXPECT_THAT(store_.Read(digest_), HasSubstr("has 100 bytes, want 3145745"));
  EXPECT_THAT(store_.Read(digest_), StartsWith("NOT_FOUND"));
  store_.Upload("lost");
  std::filesystem::remove(store_.PathOf(Sha256Digest("lost")));
  EXPECT_THAT(store_.Read(Sha256Digest("lost")), HasSubstr("its file is gone"));
  ExpectMetric("blobs_damaged_total", 2);
}

// ---- Pins, manifests, collection ----

TEST_F(StoreBlobsTest, WhatNobodyPinnedGoesAfterADayAndWhatIsPinnedStays) {
  store_.Upload("kept");
  store_.Upload("loose");
  ASSERT_TRUE(Pin(kJob, Sha256Digest("kept")).ok());
  store_.Advance(absl::Hours(25));
  EXPECT_EQ(store_.Read(Sha256Digest("kept")), "kept");
  EXPECT_THAT(store_.Read(Sha256Digest("loose")), StartsWith("NOT_FOUND"));
  EXPECT_FALSE(std::filesystem::exists(store_.PathOf(Sha256Digest("loose"))));
  ExpectMetric("pins", 1);
  ExpectMetric("blobs", 1);
  ExpectMetric("blobs_collected_total", 1);
  ASSERT_TRUE(Unpin(kJob, Sha256Digest("kept")).ok());
  ASSERT_TRUE(Unpin(kJob, Sha256Digest("kept")).ok());
  store_.Advance(absl::Minutes(11));
  EXPECT_FALSE(std::filesystem::exists(store_.PathOf(Sha256Digest("kept"))));
  ExpectMetric("pins", 0);
  ExpectMetric("blobs_collected_total", 2);
  EXPECT_EQ(store_.Upload("kept"), Sha256Digest("kept"));
  EXPECT_EQ(store_.Read(Sha256Digest("kept")), "kept");
}

TEST_F(StoreBlobsTest, WhatCannotBeRemovedIsTriedAgainAndTheOthersGoAllTheSame) {
  for (const char* data : {"a", "b", "c"}) store_.Upload(data);
  // The disk cannot part with the object that it is asked for first.
  std::string stuck;
  store_.disk.on_remove = [&stuck](const ObjectKey& key) {
    if (stuck.empty()) stuck = key.digest;
    return key.digest == stuck ? absl::PermissionDeniedError("it stays") : absl::OkStatus();
  };
  store_.Advance(absl::Hours(25));
  ASSERT_FALSE(stuck.empty());
  for (const char* data : {"a", "b", "c"}) {
    const std::string digest = Sha256Digest(data);
    EXPECT_EQ(std::filesystem::exists(store_.PathOf(digest)), digest == stuck) << data;
  }
  EXPECT_THAT(log_, HasSubstr("an object cannot be removed"));
  ExpectMetric("blobs_collected_total", 2);
  EXPECT_THAT(store_.Read(stuck), StartsWith("NOT_FOUND")) << "it counts as absent";

  store_.disk.on_remove = nullptr;
  store_.Advance(absl::Minutes(11));
  EXPECT_FALSE(std::filesystem::exists(store_.PathOf(stuck)));
  ExpectMetric("blobs_collected_total", 3);
}

TEST_F(StoreBlobsTest, AManifestIsParsedAndHoldsItsFiles) {
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::ADAPTER);
  *manifest.add_files() = *UploadBytes(store_.client(), "acme", "a", "bytes of a");
  *manifest.add_files() = *UploadBytes(store_.client(), "acme", "b", "bytes of b");
  const auto digest = UploadManifest(store_.client(), "acme", manifest);
  ASSERT_TRUE(digest.ok()) << digest.status();
  ASSERT_TRUE(Pin(kJob, *digest).ok());
  store_.Advance(absl::Hours(25));
  EXPECT_EQ(store_.Read(Sha256Digest("bytes of a"), kJob), "bytes of a");
  v1::GetManifestRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(*digest);
  request.set_reference(kJob);
  const auto parsed = store_.client().GetManifest(request);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->SerializeAsString(), manifest.SerializeAsString());
  request.set_digest(Sha256Digest("bytes of a"));
  EXPECT_TRUE(absl::IsInvalidArgument(store_.client().GetManifest(request).status()));
}

TEST_F(StoreBlobsTest, AManifestWithMissingFilesIsNotPinnedAndTheyAreListed) {
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::ADAPTER);
  *manifest.add_files() = DescribeBytes("absent", "never uploaded");
  const auto digest = UploadManifest(store_.client(), "acme", manifest);
  const absl::Status status = Pin(kJob, *digest);
  ASSERT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_EQ(status.message(), "missing blobs: " + Sha256Digest("never uploaded"));
}

// Years pass, and an upload that somebody is at does not expire.
class StoreRaceTest : public StoreBlobsTest {
 protected:
  StoreRaceTest() : StoreBlobsTest(RaceOptions()) {}
  static StoreServer::Options RaceOptions() {
    StoreServer::Options options = Options();
    options.uploads.lifetime = absl::Hours(24 * 365 * 1000);
    return options;
  }
};

TEST_F(StoreRaceTest, PinsAndCollectionRaceWithoutLoss) {
  // Each thread uploads, pins and reads its own blob while time passes and the collector runs: a
  // pin that was granted must hold, whatever the collector does meanwhile.
  std::atomic<int> left{4};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const std::string data = absl::StrCat("blob ", t, " ", i % 3);
        const std::string owner = absl::StrCat("tenants/acme/jobs/j", t);
        const std::string digest = Sha256Digest(data);
        absl::Status pinned = absl::NotFoundError("");
        while (absl::IsNotFound(pinned)) {
          store_.Upload(data);
          pinned = Pin(owner, digest);
        }
        EXPECT_TRUE(pinned.ok()) << pinned;
        EXPECT_EQ(store_.Read(digest, owner), data);
        EXPECT_TRUE(Unpin(owner, digest).ok());
      }
      --left;
    });
  }
  while (left > 0) store_.Advance(absl::Hours(25));
  for (std::thread& thread : threads) thread.join();
}

TEST_F(StoreBlobsTest, PinsAreListedInPagesByPrefix) {
  store_.Upload("a");
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Pin(absl::StrCat("tenants/acme/jobs/j", i), Sha256Digest("a")).ok());
  }
  v1::ListPinsRequest request;
  request.set_parent("tenants/acme");
  request.set_owner_prefix("tenants/acme/jobs/");
  request.set_page_size(2);
  std::vector<std::string> owners;
  do {
    const auto page = store_.client().ListPins(request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Pin& pin : page->pins()) owners.push_back(pin.owner());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(owners,
              ElementsAre("tenants/acme/jobs/j0", "tenants/acme/jobs/j1", "tenants/acme/jobs/j2",
                          "tenants/acme/jobs/j3", "tenants/acme/jobs/j4"));
}

TEST_F(StoreBlobsTest, OwnersAreJobsAndVersionsOnly) {
  store_.Upload("a");
  for (const char* owner : {"", "tenants/acme", "tenants/acme/datasets/d", "jobs/j"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Pin(owner, Sha256Digest("a")))) << owner;
    EXPECT_TRUE(absl::IsInvalidArgument(Unpin(owner, Sha256Digest("a")))) << owner;
  }
  EXPECT_TRUE(Pin("tenants/acme/adapters/a/versions/1", Sha256Digest("a")).ok());
}

}  // namespace
}  // namespace deltaworks::services
