// Which base a version runs on, through whose access it is loaded, and what is dropped or refused
// when there is no room.

#include "services/inference/model_loader.h"

#include <atomic>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/inference/testing/hook_clock.h"
#include "services/inference/testing/inference_world.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

const Caller kGlobex = {"globex"};

double BytesOf(const InferenceWorld& world, const char* kind) {
  return world.Metric(absl::StrCat("deltaworks_inference_loaded_bytes{kind=\"", kind, "\"}"));
}
double Evictions(const InferenceWorld& world) {
  return world.Metric("deltaworks_inference_evictions_total");
}

// ---- Tenants ----

TEST(ModelLoaderTest, ATenantWhoWaitsForAnothersLoadDoesNotGetItsError) {
  InferenceWorld world;
  v1::BaseModel broken = world.BaseModel(kTiny);
  const std::string nowhere = Sha256Digest("not in the store");
  broken.set_manifest_digest(nowhere);
  world.store().PutBaseModel(broken);
  // Each is asked once before it loads or waits.
  Gate acme_loads, globex_waits;
  std::atomic<int> acme_asked = 0, globex_asked = 0;
  CallControl acme, globex;
  acme.cancelled = [&] {
    if (++acme_asked == 2) {
      acme_loads.Open();
      globex_waits.Await();
    }
    return false;
  };
  globex.cancelled = [&] {
    if (++globex_asked == 2) globex_waits.Open();
    return false;
  };
  const auto sink = [](const v1::GenerateResponse&) { return true; };
  std::thread first([&] {
    const absl::Status status =
        world.core().Generate(kAcme, InferenceWorld::Request(kTiny), acme, sink);
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(nowhere));
  });
  acme_loads.Await();
  v1::GenerateRequest request = InferenceWorld::Request(kTheirs);
  request.set_parent("tenants/globex");
  const absl::Status status = world.core().Generate(kGlobex, request, globex, sink);
  EXPECT_TRUE(status.ok()) << status;
  first.join();
}

// ---- The base of a version ----

TEST(ModelLoaderTest, AVersionFromAnotherTenantsBaseRunsOnTheTenantsOwn) {
  InferenceWorld world;
  v1::GenerateRequest request =
      InferenceWorld::Request(world.AddVersion("tenants/globex/adapters/guest", 1));
  request.set_parent("tenants/globex");
  const Answer answer = world.Generate(request, kGlobex);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.tokens, world.Generate(InferenceWorld::Request(kPoet)).tokens);

  v1::BaseModel gone = world.BaseModel(kTheirs);
  gone.set_state(v1::BaseModel::IMPORTING);
  world.store().PutBaseModel(gone);
  const absl::Status status = world.Generate(request, kGlobex).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(),
            absl::StrCat(request.model().model(), " is bound to base ", gone.source_digest(),
                         ", but no READY base of tenants/globex is that one"));
}

TEST(ModelLoaderTest, WithoutItsOwnBaseAVersionTakesTheSameFormAndThenTheOther) {
  InferenceWorld world;
  v1::GenerateRequest request = InferenceWorld::Request(kPoet);
  const std::vector<int32_t> in_f32 = world.Generate(request).tokens;
  const v1::BaseModel tiny = world.BaseModel(kTiny);
  v1::BaseModel gone = tiny;
  gone.set_state(v1::BaseModel::IMPORTING);
  world.store().PutBaseModel(gone);
  ASSERT_TRUE(world.Generate(request).status.ok());
  EXPECT_EQ(world.Metric("deltaworks_inference_loads_total{kind=\"base\"}"), 2);  // BF16's too.
  v1::BaseModel twin = tiny;
  twin.set_name("tenants/acme/baseModels/twin");
  world.store().PutBaseModel(twin);
  EXPECT_EQ(world.Generate(request).tokens, in_f32);
  v1::ListLoadedModelsRequest list;
  list.set_parent("tenants/acme");
  const auto listed = world.core().ListLoadedModels(kAcme, list);
  ASSERT_TRUE(listed.ok()) << listed.status();
  std::vector<std::string> names;
  for (const v1::LoadedModel& model : listed->loaded_models()) names.push_back(model.name());
  EXPECT_THAT(names, ::testing::ElementsAre(kPoet, kTiny, kTinyBf16, twin.name()));
}

// ---- Room ----

TEST(ModelLoaderTest, ABaseMakesRoomForAnotherEvenIfAnIdleAdapterHoldsIt) {
  InferenceWorld measuring;
  ASSERT_TRUE(measuring.Generate(InferenceWorld::Request(kTiny)).status.ok());
  InferenceCore::Options options = SmallOptions();
  options.loader.base_bytes_max = static_cast<int64_t>(BytesOf(measuring, "base")) * 3 / 2;
  InferenceWorld world(options);
  ASSERT_TRUE(world.Generate(InferenceWorld::Request(kTiny)).status.ok());
  ASSERT_TRUE(world.Generate(InferenceWorld::Request(kOther)).status.ok());
  EXPECT_EQ(Evictions(world), 1);
  for (const auto mode : {v1::ModelSelector::UNMERGED, v1::ModelSelector::MERGED}) {
    ASSERT_TRUE(world.Generate(InferenceWorld::Request(kPoet, mode)).status.ok());
    const Answer other = world.Generate(InferenceWorld::Request(kOther));
    EXPECT_TRUE(other.status.ok()) << other.status;
    EXPECT_EQ(BytesOf(world, "adapter") + BytesOf(world, "merged"), 0);
  }
  EXPECT_EQ(BytesOf(world, "base"), BytesOf(measuring, "base"));

  options.loader.base_bytes_max = 1000;
  InferenceWorld small(options);
  const absl::Status status = small.Generate(InferenceWorld::Request(kTiny)).status;
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--base_bytes_max = 1000"));
}

TEST(ModelLoaderTest, AnAdapterWithoutRoomIsNotFetched) {
  InferenceCore::Options options = SmallOptions();
  options.loader.adapter_bytes_max = options.loader.merged_bytes_max = 1000;
  InferenceWorld world(options);
  for (const auto& [mode, flag] : {std::pair(v1::ModelSelector::UNMERGED, "--adapter_bytes_max"),
                                   std::pair(v1::ModelSelector::MERGED, "--merged_bytes_max")}) {
    const absl::Status status = world.Generate(InferenceWorld::Request(kPoet, mode)).status;
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(flag, " = 1000")));
  }
  EXPECT_EQ(world.registry().download_calls(), 0);
}

TEST(ModelLoaderTest, AFileThatIsLargerThanItsVersionSaysIsRefused) {
  InferenceWorld world;
  const trainer::PeftFiles files = world.MakeFiles(1, world.BaseModel(kTiny).source_digest());
  const auto size = files.adapter_config.size() + files.adapter_model.size();
  world.registry().PutVersionFiles(kPoet,
                                   {{trainer::kAdapterConfigFile, std::string(size + 1, ' ')},
                                    {trainer::kAdapterModelFile, files.adapter_model}});
  const absl::Status status = world.Generate(InferenceWorld::Request(kPoet)).status;
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("want at most ", size)));
  EXPECT_EQ(BytesOf(world, "adapter"), 0);
}

}  // namespace
}  // namespace deltaworks::services
