// What becomes READY, what becomes REJECTED and why, and what is neither because it may still come
// right: blobs that are absent or damaged, a store that is away.

#include <cmath>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/registry/adapter_manifest.h"
#include "services/registry/testing/registry_world.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class VersionRulesTest : public ::testing::Test {
 protected:
  // The failure of a version that must be REJECTED, after which its source stays refused.
  v1::Failure Refusal(const std::string& manifest) {
    const auto version = world_.CreateFrom(manifest);
    EXPECT_TRUE(version.ok()) << version.status();
    if (!version.ok()) return {};
    EXPECT_EQ(version->state(), v1::AdapterVersion::REJECTED);
    const auto again = world_.CreateFrom(manifest);
    EXPECT_TRUE(again.ok()) << again.status();
    if (!again.ok()) return {};
    EXPECT_EQ(again->SerializeAsString(), version->SerializeAsString());
    EXPECT_THAT(world_.store().Pins(), IsEmpty());
    return version->failure();
  }
  std::string RefusalText(const std::string& manifest) { return Refusal(manifest).message(); }
  std::string RefusalText(const std::function<void(v1::Manifest&)>& change) {
    const AdapterParts parts = world_.Parts();
    return RefusalText(world_.Upload(parts, parts.Files(), change));
  }

  RegistryWorld world_{"version_rules"};
};

TEST_F(VersionRulesTest, ASoundAdapterBecomesReadyWithItsLineage) {
  const AdapterParts parts = world_.Parts();
  const std::string manifest = world_.Upload(parts);
  const auto version = world_.CreateFrom(manifest);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->state(), v1::AdapterVersion::READY) << version->failure().message();
  EXPECT_EQ(version->name(), "tenants/acme/adapters/poet/versions/1");
  EXPECT_EQ(version->adapter_digest(), Sha256Digest(parts.Files().adapter_model));
  EXPECT_EQ(version->base_source_digest(), world_.base().source_digest());
  EXPECT_EQ(version->base_form(), v1::F32);
  EXPECT_EQ(version->numerics_class(), "cpu-1");
  EXPECT_EQ(version->probe_digest(), Sha256Digest("probe"));
  EXPECT_EQ(version->trainable_parameters(), parts.values.size());
  EXPECT_EQ(version->size_bytes(),
            parts.Files().adapter_model.size() + parts.Files().adapter_config.size());
  EXPECT_EQ(version->spec().lora().rank(), 2);
  EXPECT_EQ(version->metrics().loss(), 0.5);
  EXPECT_TRUE(version->exact());
  EXPECT_EQ(version->build_version(), "0.1.0");
  EXPECT_EQ(version->create_time().seconds(), absl::ToUnixSeconds(world_.clock().Now()));
  EXPECT_THAT(world_.store().Pins(),
              ::testing::ElementsAre(std::make_pair(version->name(), manifest)));
}

TEST_F(VersionRulesTest, ANaNNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  parts.values[3] = std::nanf("");
  EXPECT_THAT(RefusalText(world_.Upload(parts)), HasSubstr("element 3 is nan, want finite"));
}

TEST_F(VersionRulesTest, AnInfinityNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  parts.values.back() = -INFINITY;
  EXPECT_THAT(RefusalText(world_.Upload(parts)), HasSubstr("is -inf, want finite"));
}

TEST_F(VersionRulesTest, AWrongShapeNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  std::swap(parts.tensors[0].shape[0], parts.tensors[0].shape[1]);
  EXPECT_THAT(RefusalText(world_.Upload(parts)), HasSubstr("is [24, 2], want [2, 24]"));
}

TEST_F(VersionRulesTest, AMissingTensorNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  const std::string name = parts.tensors.back().name;
  parts.tensors.pop_back();
  EXPECT_THAT(RefusalText(world_.Upload(parts)), HasSubstr(name + " is absent"));
}

TEST_F(VersionRulesTest, ATensorTooManyNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  parts.config.target_modules = {"q_proj"};
  EXPECT_THAT(RefusalText(world_.Upload(parts)), HasSubstr("belongs to no target"));
}

TEST_F(VersionRulesTest, AFileBoundToAnotherBaseNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  parts.base_digest = Sha256Digest("another base");
  EXPECT_THAT(RefusalText(world_.Upload(parts)), HasSubstr("it is bound to base"));
}

TEST_F(VersionRulesTest, AFileBoundToNoBaseNeverBecomesReady) {
  AdapterParts parts = world_.Parts();
  parts.base_digest.clear();
  EXPECT_THAT(RefusalText(world_.Upload(parts)),
              HasSubstr("it is bound to base \"\", want sha256"));
}

TEST_F(VersionRulesTest, AManifestOfAnotherBaseNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) {
                manifest.set_base_source_digest(Sha256Digest("another base"));
              }),
              HasSubstr("base_source_digest is " + Sha256Digest("another base")));
}

TEST_F(VersionRulesTest, AnotherFormOfTheBaseNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) { manifest.set_base_form(v1::BF16); }),
              HasSubstr("base_form is BF16, want F32"));
}

TEST_F(VersionRulesTest, AnAdapterWithoutProbeNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) { manifest.clear_probe_digest(); }),
              HasSubstr("probe_digest"));
}

TEST_F(VersionRulesTest, AnAdapterDigestOfOtherBytesNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) {
                manifest.set_adapter_digest(Sha256Digest("other"));
              }),
              HasSubstr("adapter_digest is"));
}

TEST_F(VersionRulesTest, AWrongSizeOrChunkDigestNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) {
                manifest.mutable_files(0)->set_size_bytes(manifest.files(0).size_bytes() + 1);
              }),
              HasSubstr("size_bytes is"));
  RegistryWorld other("version_rules_chunk");
  const AdapterParts parts = other.Parts();
  const auto version =
      other.CreateFrom(other.Upload(parts, parts.Files(), [](v1::Manifest& manifest) {
        manifest.mutable_files(1)->set_chunk_digests(0, Sha256Digest("other"));
      }));
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_THAT(version->failure().message(), HasSubstr("chunk_digests[0] is"));
}

TEST_F(VersionRulesTest, BytesThatAreNoManifestNeverBecomeReady) {
  const v1::Failure failure = Refusal(world_.store().AddBlob(kTenant, "\xff\xff garbage"));
  EXPECT_THAT(failure.message(), HasSubstr("not a manifest"));
  EXPECT_EQ(failure.code(), "VERSION_REFUSED");
  EXPECT_EQ(failure.fault(), v1::Failure::PLATFORM);
  EXPECT_EQ(failure.field(), "adapter_version.manifest_digest");
}

TEST_F(VersionRulesTest, ADatasetManifestNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) { manifest.set_kind(v1::Manifest::DATASET); }),
              HasSubstr("kind is DATASET, want ADAPTER or CHECKPOINT"));
}

TEST_F(VersionRulesTest, AnotherDatasetThanTheJobsNeverBecomesReady) {
  EXPECT_THAT(RefusalText([](v1::Manifest& manifest) {
                manifest.set_dataset_manifest_digest(Sha256Digest("another"));
              }),
              HasSubstr("dataset_manifest_digest is"));
}

TEST_F(VersionRulesTest, AnAdapterLargerThanTheLimitNeverBecomesReady) {
  const AdapterParts parts = world_.Parts();
  trainer::PeftFiles files = parts.Files();
  files.adapter_model.resize((1 << 20) + 1);
  EXPECT_THAT(RefusalText(world_.Upload(parts, files)), HasSubstr("has more than 1048576 bytes"));
}

TEST_F(VersionRulesTest, AnUnknownOrFailedBaseNeverBecomesReady) {
  v1::CreateVersionRequest request = world_.Request("job", world_.Upload(world_.Parts()));
  request.mutable_adapter_version()->set_base_model("tenants/acme/baseModels/none");
  auto version = world_.core().CreateVersion(Platform(), request);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->failure().code(), "BASE_MODEL_INVALID");
  EXPECT_EQ(version->failure().field(), "adapter_version.base_model");

  v1::BaseModel base = world_.base();
  base.set_state(v1::BaseModel::FAILED);
  world_.store().PutBaseModel(base);
  version = world_.core().CreateVersion(
      Platform(), world_.Request("job2", request.adapter_version().manifest_digest()));
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->failure().code(), "BASE_MODEL_INVALID");
}

TEST_F(VersionRulesTest, ABaseThatIsStillImportedIsNoVerdict) {
  v1::BaseModel base = world_.base();
  base.set_state(v1::BaseModel::IMPORTING);
  world_.store().PutBaseModel(base);
  EXPECT_TRUE(absl::IsUnavailable(world_.Create("job").status()));
  base.set_state(v1::BaseModel::READY);
  world_.store().PutBaseModel(base);
  EXPECT_EQ(world_.Create("job")->state(), v1::AdapterVersion::READY);
}

TEST_F(VersionRulesTest, AnotherBaseThanTheAdaptersEarlierVersionsIsRefused) {
  ASSERT_EQ(world_.Create("first")->state(), v1::AdapterVersion::READY);
  const v1::BaseModel other = world_.AddBase("tenants/acme/baseModels/other", "other");
  AdapterParts parts = world_.Parts();
  parts.base_digest = other.source_digest();
  parts.manifest.set_base_source_digest(other.source_digest());
  v1::CreateVersionRequest request = world_.Request("second", world_.Upload(parts));
  request.mutable_adapter_version()->set_base_model(other.name());
  const auto version = world_.core().CreateVersion(Platform(), request);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->state(), v1::AdapterVersion::REJECTED);
  EXPECT_EQ(version->failure().fault(), v1::Failure::USER);
  EXPECT_THAT(version->failure().message(), HasSubstr("use another adapter"));
}

TEST_F(VersionRulesTest, ACheckpointBecomesAVersionOfItsOwn) {
  AdapterParts parts = world_.Parts();
  parts.manifest.set_kind(v1::Manifest::CHECKPOINT);
  parts.manifest.clear_probe_digest();
  parts.extra_file_bytes = std::string((4 << 20) + 5, 'm');
  v1::CreateVersionRequest request = world_.Request("job", world_.Upload(parts));
  auto& source = *request.mutable_adapter_version()->mutable_source();
  source.set_checkpoint_step(39);
  auto version = world_.core().CreateVersion(Platform(), request);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->failure().message(), "manifest: step is 40, want 39, the checkpoint's");

  source.set_checkpoint_step(40);
  version = world_.core().CreateVersion(Platform(), request);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->state(), v1::AdapterVersion::READY) << version->failure().message();
}

TEST_F(VersionRulesTest, ACheckpointIsNoResult) {
  EXPECT_THAT(
      RefusalText([](v1::Manifest& manifest) { manifest.set_kind(v1::Manifest::CHECKPOINT); }),
      HasSubstr("want ADAPTER for a job's result"));
}

TEST_F(VersionRulesTest, AbsentBlobsAreListedAndAsSoonAsTheyAreThereItBecomesReady) {
  const AdapterParts parts = world_.Parts();
  const std::string manifest = world_.Upload(parts);
  const std::string model = Sha256Digest(parts.Files().adapter_model);
  const std::string config = Sha256Digest(parts.Files().adapter_config);
  world_.store().RemoveBlob(model);
  world_.store().RemoveBlob(config);
  const absl::Status status = world_.CreateFrom(manifest).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(), absl::StrCat("missing blobs: ", config, ", ", model));
  EXPECT_THAT(world_.store().Pins(), IsEmpty());
  world_.Upload(parts);
  EXPECT_EQ(world_.CreateFrom(manifest)->state(), v1::AdapterVersion::READY);
}

TEST_F(VersionRulesTest, AnAbsentManifestIsAMissingBlob) {
  const std::string digest = Sha256Digest("nowhere");
  const absl::Status status = world_.CreateFrom(digest).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(), "missing blobs: " + digest);
}

TEST_F(VersionRulesTest, AFlippedByteInTheStoreNeverBecomesReadyUntilTheBlobIsUploadedAgain) {
  const AdapterParts parts = world_.Parts();
  const std::string manifest = world_.Upload(parts);
  const std::string model = Sha256Digest(parts.Files().adapter_model);
  for (const std::string& digest : {model, Sha256Digest(parts.Files().adapter_config), manifest}) {
    world_.store().FlipByte(digest, 100);
    for (int i = 0; i < 2; ++i) {
      const absl::Status status = world_.CreateFrom(manifest).status();
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
      EXPECT_EQ(status.message(), "missing blobs: " + digest);
    }
    world_.Upload(parts);
  }
  EXPECT_THAT(world_.MetricsText(), HasSubstr("deltaworks_registry_damaged_reads_total 3"));
  EXPECT_EQ(world_.CreateFrom(manifest)->state(), v1::AdapterVersion::READY);
}

TEST_F(VersionRulesTest, AFlippedByteThatTheManifestVouchesForIsRefused) {
  const AdapterParts parts = world_.Parts();
  trainer::PeftFiles files = parts.Files();
  files.adapter_model[9] ^= 0x20;  // In the header.
  EXPECT_THAT(RefusalText(world_.Upload(parts, files)), StartsWith("adapter_model.safetensors"));
}

TEST_F(VersionRulesTest, AStoreThatIsAwayIsNoVerdict) {
  for (const char* rpc :
       {"ReadBlob", "FindMissingBlobs", "GetBaseModel", "CreatePin", "ReportCorruptBlob"}) {
    const AdapterParts parts = world_.Parts();
    const std::string manifest = world_.Upload(parts);
    if (absl::string_view(rpc) == "ReportCorruptBlob") {
      world_.store().FlipByte(Sha256Digest(parts.Files().adapter_model), 200);
    }
    world_.store().Fail(rpc, absl::DeadlineExceededError("slow"));
    const absl::Status status = world_.CreateFrom(manifest).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << rpc << ": " << status;
    EXPECT_THAT(status.message(), AllOf(HasSubstr("store"), HasSubstr("slow"))) << rpc;
    EXPECT_THAT(world_.store().Pins(), IsEmpty()) << rpc;
    v1::GetAdapterRequest adapter;
    adapter.set_name(kAdapterName);
    EXPECT_TRUE(absl::IsNotFound(world_.core().GetAdapter(Owner(), adapter).status())) << rpc;
  }
}

}  // namespace
}  // namespace deltaworks::services
