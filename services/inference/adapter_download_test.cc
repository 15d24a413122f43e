// Downloads that are cut, lie or are too large.

#include "services/inference/adapter_download.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/clients/fake_registry_client.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

class AdapterDownloadTest : public ::testing::Test {
 protected:
  AdapterDownloadTest() {
    v1::CreateVersionRequest request;
    request.set_parent("tenants/acme/adapters/poet");
    request.mutable_adapter_version()->set_adapter_digest(Sha256Digest(model_));
    version_ = *registry_.CreateVersion(request);
    registry_.PutFiles({{"adapter_config.json", config_}, {"adapter_model.safetensors", model_}});
    options_.retry.sleep = [](absl::Duration) {};
    options_.retry.monotonic = [this] { return now_ += absl::Seconds(1); };
    options_.retry.total_max = absl::Seconds(10);
  }

  const std::string config_ = R"({"r": 8})";
  const std::string model_ = std::string(1000, 'm');
  FakeRegistryClient registry_;
  v1::AdapterVersion version_;
  absl::Duration now_;
  DownloadOptions options_;
};

TEST_F(AdapterDownloadTest, AStreamThatIsCutGoesOnWhereItEnded) {
  registry_.CutDownloads(100, 7);
  const auto files = DownloadPeft(registry_, version_, options_);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->adapter_config, config_);
  EXPECT_EQ(files->adapter_model, model_);
}

TEST_F(AdapterDownloadTest, OneThatDoesNotGetOnIsGivenUp) {
  registry_.CutDownloads(0, 1'000'000);
  EXPECT_TRUE(absl::IsUnavailable(DownloadPeft(registry_, version_, options_).status()));
}

TEST_F(AdapterDownloadTest, BytesOfAnotherDigestThanTheVersionsAreRefused) {
  registry_.PutFiles({{"adapter_config.json", config_}, {"adapter_model.safetensors", "other"}});
  const absl::Status status = DownloadPeft(registry_, version_, options_).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(Sha256Digest("other")));
  EXPECT_THAT(std::string(status.message()), HasSubstr(Sha256Digest(model_)));
}

TEST_F(AdapterDownloadTest, AFileThatIsTooLargeOrAbsentIsRefused) {
  options_.bytes_max = 999;
  const absl::Status status = DownloadPeft(registry_, version_, options_).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 1000 bytes, want at most 999"));
  registry_.PutFiles({{"adapter_config.json", config_}});
  EXPECT_TRUE(absl::IsDataLoss(DownloadPeft(registry_, version_, options_).status()));
}

TEST_F(AdapterDownloadTest, ACallerThatIsGoneEndsIt) {
  options_.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(DownloadPeft(registry_, version_, options_).status()));
}

}  // namespace
}  // namespace deltaworks::services
