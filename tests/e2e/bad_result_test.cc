// Results that must not become versions: handed in by a scripted worker, whose job the scheduler,
// the store and the registry treat like any other. And an adapter on a base that is not its own.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/scripted_worker.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BadResultTest : public ::testing::Test {
 protected:
  BadResultTest() : worker_(platform_, trainer::MakeTinyModel().config) {
    base_ = ImportBase(platform_);
    AddDataset(platform_, "pairs", 20, 1);
  }

  // Submits a job of this id and takes it.
  v1::Assignment Take(const std::string& id) {
    Submit(platform_, JobRequest(id, 10));
    return worker_.AwaitJob();
  }

  // Hands in the result; returns the job, which is final then.
  v1::Job HandIn(const v1::Assignment& job, const ScriptedResult& result) {
    const v1::Assignment answer = worker_.ReportUntilFinal(job, worker_.Upload(job, result));
    EXPECT_EQ(answer.missing_blobs_size(), 0);
    return AwaitEnd(platform_, job.job());
  }

  void ExpectRefused(const v1::Job& job, const std::string& why) {
    EXPECT_EQ(job.status().state(), v1::FAILED) << Describe(job);
    EXPECT_EQ(job.status().failure().code(), "VERSION_REFUSED") << Describe(job);
    EXPECT_THAT(job.status().failure().message(), HasSubstr(why));
    EXPECT_EQ(job.status().result().version(), "");
    for (const v1::AdapterVersion& version : VersionsOf(platform_, job.train().adapter())) {
      EXPECT_EQ(version.state(), v1::AdapterVersion::REJECTED);
      v1::DownloadVersionRequest download;
      download.set_name(version.name());
      const absl::Status status = platform_.registry_of().DownloadVersion(
          download, [](const v1::DownloadVersionResponse&) { return absl::OkStatus(); });
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    }
    EXPECT_TRUE(
        absl::IsNotFound(platform_.registry_of().GetVersion(job.train().adapter()).status()))
        << "the adapter has a READY version";
  }

  // Flips a bit of a blob as it lies on the store's disk.
  void DamageOnDisk(const std::string& digest) {
    const std::string hex = digest.substr(std::string("sha256:").size());
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(platform_.folder() + "/store")) {
      if (!absl::StartsWith(entry.path().filename().string(), hex)) continue;
      ASSERT_EQ(chmod(entry.path().c_str(), 0644), 0);
      const int fd = open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
      char byte = 0;
      ASSERT_EQ(pread(fd, &byte, 1, 1000), 1);
      byte = static_cast<char>(byte ^ 1);
      ASSERT_EQ(pwrite(fd, &byte, 1, 1000), 1);
      close(fd);
      return;
    }
    FAIL() << digest << " is not on the store's disk";
  }

  Platform platform_{{.inference = true, .start_workers = false}};
  v1::BaseModel base_;
  ScriptedWorker worker_;
};

TEST_F(BadResultTest, ASoundOneBecomesAVersionSoTheOthersFailForTheirFaultsAlone) {
  const v1::Assignment job = Take("sound");
  const v1::Job done = HandIn(job, worker_.SoundResult(job));
  EXPECT_EQ(done.status().state(), v1::SUCCEEDED) << Describe(done);
  EXPECT_EQ(Must(platform_.registry_of().GetVersion(done.status().result().version())).state(),
            v1::AdapterVersion::READY);
}

TEST_F(BadResultTest, AFlippedByteIsRefused) {
  const v1::Assignment job = Take("flipped");
  ScriptedResult result = worker_.SoundResult(job);
  result.spoil_bytes = [](std::string& bytes) { bytes[bytes.size() / 2] ^= 1; };
  ExpectRefused(HandIn(job, result), "adapter_digest");
}

TEST_F(BadResultTest, ANanIsRefused) {
  const v1::Assignment job = Take("nan");
  ScriptedResult result = worker_.SoundResult(job);
  result.values[17] = std::numeric_limits<float>::quiet_NaN();
  ExpectRefused(HandIn(job, result), "finite");
}

TEST_F(BadResultTest, AWrongShapeIsRefused) {
  const v1::Assignment job = Take("shape");
  ScriptedResult result = worker_.SoundResult(job);
  std::swap(result.tensors[0].shape[0], result.tensors[0].shape[1]);
  ExpectRefused(HandIn(job, result), result.tensors[0].name);
}

TEST_F(BadResultTest, AMissingTensorIsRefused) {
  const v1::Assignment job = Take("missing");
  ScriptedResult result = worker_.SoundResult(job);
  const std::string name = result.tensors.back().name;
  result.tensors.pop_back();
  ExpectRefused(HandIn(job, result), name);
}

TEST_F(BadResultTest, AnAdapterBoundToAnotherBaseIsRefusedByDigest) {
  const v1::BaseModel other =
      ImportBase(platform_, {.id = "other", .model = trainer::MakeTinyModel(true, 2)});
  const v1::Assignment job = Take("bound");
  ScriptedResult result = worker_.SoundResult(job);
  result.base_digest = other.source_digest();
  ExpectRefused(HandIn(job, result), other.source_digest());
}

TEST_F(BadResultTest, BytesThatTheDiskSpoiledAreAskedForAgain) {
  const v1::Assignment job = Take("spoiled");
  const ScriptedResult result = worker_.SoundResult(job);
  const UploadedResult uploaded = worker_.Upload(job, result);
  DamageOnDisk(uploaded.adapter_digest);
  const v1::Assignment answer = worker_.ReportUntilFinal(job, uploaded);
  ASSERT_EQ(answer.missing_blobs_size(), 1) << answer.DebugString();
  EXPECT_EQ(answer.missing_blobs(0), uploaded.adapter_digest);
  EXPECT_EQ(GetJob(platform_, job.job()).status().state(), v1::FINALIZING);
  EXPECT_TRUE(absl::IsNotFound(
      platform_.registry_of().GetVersion("tenants/acme/adapters/spoiled").status()));

  const UploadedResult again = worker_.Upload(job, result);
  EXPECT_EQ(again.manifest_digest, uploaded.manifest_digest);
  EXPECT_TRUE(worker_.ReportUntilFinal(job, again).job_final());
  const v1::Job done = AwaitEnd(platform_, job.job());
  EXPECT_EQ(done.status().state(), v1::SUCCEEDED) << Describe(done);
  EXPECT_EQ(done.status().result().adapter_digest(), uploaded.adapter_digest);
}

TEST_F(BadResultTest, AnAdapterAnswersOnItsOwnBaseOnly) {
  const v1::BaseModel other =
      ImportBase(platform_, {.id = "other", .model = trainer::MakeTinyModel(true, 2)});
  const v1::Assignment job = Take("own-base");
  const v1::Job done = HandIn(job, worker_.SoundResult(job));
  ASSERT_EQ(done.status().state(), v1::SUCCEEDED) << Describe(done);

  v1::GenerateRequest request;
  request.set_parent(Parent());
  request.mutable_model()->set_model(done.status().result().version());
  request.set_prompt("the");
  request.set_max_new_tokens(2);
  const auto generate = [&] {
    return platform_.inference_of().Generate(
        request, [](const v1::GenerateResponse&) { return absl::OkStatus(); });
  };
  EXPECT_TRUE(generate().ok());
  for (const auto mode : {v1::ModelSelector::UNMERGED, v1::ModelSelector::MERGED}) {
    request.mutable_model()->set_base_model(other.name());
    request.mutable_model()->set_mode(mode);
    const absl::Status status = generate();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(base_.source_digest()), HasSubstr(other.source_digest())));
  }
}

}  // namespace
}  // namespace deltaworks::e2e
