// Downloads that are cut, lie, are too large or no longer wanted.

#include "services/clients/version_download.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/clients/fake_registry_client.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using trainer::kAdapterConfigFile;
using trainer::kAdapterModelFile;

class VersionDownloadTest : public ::testing::Test {
 protected:
  VersionDownloadTest() {
    v1::CreateVersionRequest request;
    request.set_parent("tenants/acme/adapters/poet");
    request.mutable_adapter_version()->set_adapter_digest(Sha256Digest(model_));
    version_ = *registry_.CreateVersion(request);
    registry_.PutFiles({{kAdapterConfigFile, config_}, {kAdapterModelFile, model_}});
    options_.retry.sleep = [](absl::Duration) {};
    options_.retry.monotonic = [this] { return now_ += absl::Seconds(1); };
    options_.retry.total_max = absl::Seconds(10);
  }

  absl::Status Download(const std::string& path) {
    got_.clear();
    return DownloadVersionFile(registry_, version_, path, options_,
                               [this](absl::string_view data, int64_t size_bytes) {
                                 got_.append(data.data(), data.size());
                                 size_bytes_ = size_bytes;
                                 return absl::OkStatus();
                               });
  }

  const std::string config_ = R"({"r": 8})";
  const std::string model_ = std::string(1000, 'm');
  FakeRegistryClient registry_;
  v1::AdapterVersion version_;
  absl::Duration now_;
  VersionDownloadOptions options_;
  std::string got_;
  int64_t size_bytes_ = 0;
};

TEST_F(VersionDownloadTest, AStreamThatIsCutGoesOnWhereItEnded) {
  // More cuts than a stream that stands still may have.
  registry_.CutDownloads(50, 19);
  const absl::Status status = Download(kAdapterModelFile);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(got_, model_);
  EXPECT_EQ(size_bytes_, 1000);
  EXPECT_EQ(registry_.download_calls(), 20);
  ASSERT_TRUE(Download(kAdapterConfigFile).ok());
  EXPECT_EQ(got_, config_);
}

TEST_F(VersionDownloadTest, OneThatDoesNotGetOnIsGivenUp) {
  registry_.CutDownloads(0, 1'000'000);
  EXPECT_TRUE(absl::IsUnavailable(Download(kAdapterModelFile)));
  EXPECT_LT(registry_.download_calls(), 12);
}

TEST_F(VersionDownloadTest, BytesOfAnotherDigestThanTheVersionsAreRefusedBeforeTheyAreTaken) {
  registry_.PutFiles({{kAdapterConfigFile, config_}, {kAdapterModelFile, "other"}});
  const absl::Status status = Download(kAdapterModelFile);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(Sha256Digest("other")));
  EXPECT_THAT(std::string(status.message()), HasSubstr(Sha256Digest(model_)));
  EXPECT_EQ(got_, "");
  EXPECT_TRUE(Download(kAdapterConfigFile).ok());
}

TEST_F(VersionDownloadTest, AFileThatIsTooLargeOrAbsentIsRefused) {
  options_.bytes_max = 999;
  const absl::Status status = Download(kAdapterModelFile);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 1000 bytes, want at most 999"));
  registry_.PutFiles({{kAdapterConfigFile, config_}});
  EXPECT_TRUE(absl::IsDataLoss(Download(kAdapterModelFile)));
}

TEST_F(VersionDownloadTest, ACallerThatIsGoneEndsIt) {
  options_.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(Download(kAdapterModelFile)));
}

TEST_F(VersionDownloadTest, AnErrorOfTheSinkIsFinalWhateverItsCode) {
  const absl::Status full = absl::UnavailableError("the disk went away");
  EXPECT_EQ(DownloadVersionFile(registry_, version_, kAdapterModelFile, options_,
                                [&](absl::string_view, int64_t) { return full; }),
            full);
  EXPECT_EQ(registry_.download_calls(), 1);
}

// A registry whose streams are what the test says; the last one is repeated.
class ScriptedRegistry final : public RegistryClient {
 public:
  struct Stream {
    std::vector<v1::DownloadVersionResponse> pieces;
    absl::Status end;
  };
  std::vector<Stream> streams;

  absl::Status DownloadVersion(const v1::DownloadVersionRequest&, const Sink& sink) override {
    const Stream& stream = streams[std::min(calls_++, streams.size() - 1)];
    for (const v1::DownloadVersionResponse& piece : stream.pieces) {
      if (absl::Status status = sink(piece); !status.ok()) return status;
    }
    return stream.end;
  }

  // Not asked for.
  absl::StatusOr<v1::AdapterVersion> CreateVersion(const v1::CreateVersionRequest&) override {
    return unused_;
  }
  absl::StatusOr<v1::AdapterVersion> GetVersion(const std::string&) override { return unused_; }
  absl::StatusOr<v1::Adapter> GetAdapter(const std::string&) override { return unused_; }
  absl::StatusOr<v1::ListAdaptersResponse> ListAdapters(const v1::ListAdaptersRequest&) override {
    return unused_;
  }
  absl::StatusOr<v1::ListVersionsResponse> ListVersions(const v1::ListVersionsRequest&) override {
    return unused_;
  }
  absl::StatusOr<v1::Alias> SetAlias(const v1::SetAliasRequest&) override { return unused_; }
  absl::StatusOr<v1::Alias> GetAlias(const std::string&) override { return unused_; }
  absl::StatusOr<v1::ListAliasesResponse> ListAliases(const v1::ListAliasesRequest&) override {
    return unused_;
  }
  absl::Status DeleteAlias(const v1::DeleteAliasRequest&) override { return unused_; }
  absl::StatusOr<v1::ListAliasHistoryResponse> ListAliasHistory(
      const v1::ListAliasHistoryRequest&) override {
    return unused_;
  }

 private:
  const absl::Status unused_ = absl::UnimplementedError("not of this test");
  size_t calls_ = 0;
};

TEST_F(VersionDownloadTest, ARegistryThatSaysOneThingAndSendsAnotherIsNotBelieved) {
  version_.clear_adapter_digest();
  const auto piece = [](const std::string& path, int64_t size_bytes, const std::string& bytes,
                        const std::string& data) {
    v1::DownloadVersionResponse piece;
    piece.set_path(path);
    piece.set_size_bytes(size_bytes);
    if (!path.empty()) piece.set_digest(Sha256Digest(bytes));
    piece.set_data(data);
    return piece;
  };
  const auto download = [&](std::vector<ScriptedRegistry::Stream> streams) {
    ScriptedRegistry registry;
    registry.streams = std::move(streams);
    got_.clear();
    return DownloadVersionFile(registry, version_, kAdapterModelFile, options_,
                               [this](absl::string_view data, int64_t) {
                                 got_.append(data.data(), data.size());
                                 return absl::OkStatus();
                               });
  };
  const auto first = piece(kAdapterModelFile, 4, "abcd", "ab");
  const auto rest = piece("", 0, "", "cd");
  EXPECT_TRUE(download({{{first, rest}, absl::OkStatus()}}).ok());
  EXPECT_EQ(got_, "abcd");
  const std::pair<const char*, std::vector<ScriptedRegistry::Stream>> lies[] = {
      {"bytes came before its name", {{{rest}, absl::OkStatus()}}},
      {"got adapter_config.json of 4 bytes",
       {{{piece(kAdapterConfigFile, 4, "abcd", "abcd")}, absl::OkStatus()}}},
      {"has more than the 4 bytes", {{{first, rest, rest}, absl::OkStatus()}}},
      {"is 2 bytes", {{{first}, absl::OkStatus()}}},
      {"is 4 bytes", {{{first, piece("", 0, "", "ce")}, absl::OkStatus()}}},
      {"instead",
       {{{first}, absl::UnavailableError("cut")},
        {{piece(kAdapterModelFile, 4, "abce", "ce")}, absl::OkStatus()}}},
  };
  for (const auto& [message, streams] : lies) {
    const absl::Status status = download(streams);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_LE(got_.size(), 4u);
  }
}

}  // namespace
}  // namespace deltaworks::services
