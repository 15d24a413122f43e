// Imports that go wrong, over a real server: hostile sources, damaged bytes, restarts, races. What
// fails says why and leaves nothing; what was cut goes on.

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/clients/blob_transfer.h"
#include "services/store/sqlite_metadata.h"
#include "services/store/store_test_server.h"
#include "trainer/base/file.h"
#include "trainer/formats/manifest.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr char kBase[] = "tenants/acme/baseModels/tiny";

class StoreImportsTest : public ::testing::Test {
 protected:
  StoreImportsTest() : store_("store_imports", OptionsOf(Source())) {
    SetLogWriter([](absl::string_view) {});
    std::filesystem::remove_all(Source());
    EXPECT_TRUE(MakeDirectories(Source()).ok());
  }
  ~StoreImportsTest() override { SetLogWriter(nullptr); }

  static std::string Source() { return ::testing::TempDir() + "/imports_from"; }
  static StoreServer::Options OptionsOf(const std::string& import_folder) {
    StoreServer::Options options;
    options.import_folders = {import_folder};
    return options;
  }

  static v1::ImportBaseModelRequest Request(const std::string& path,
                                            const std::string& id = "tiny") {
    v1::ImportBaseModelRequest request;
    request.set_parent("tenants/acme");
    request.set_base_model_id(id);
    request.set_local_path(path);
    request.set_form(v1::BF16);
    return request;
  }
  v1::BaseModel Import(const std::string& path, const std::string& id = "tiny") {
    const auto started = store_.client().ImportBaseModel(Request(path, id));
    EXPECT_TRUE(started.ok()) << started.status();
    return store_.AwaitImport("tenants/acme/baseModels/" + id);
  }
  std::string TinyFolder() {
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), Source() + "/tiny");
    return Source() + "/tiny";
  }
  // Whatever lies in the store, under way or done.
  std::vector<std::string> FilesLeft() {
    std::vector<std::string> files;
    for (const char* part : {"/blobs", "/imports"}) {
      for (const auto& entry :
           std::filesystem::recursive_directory_iterator(store_.folder() + part)) {
        if (entry.is_regular_file()) files.push_back(entry.path().string());
      }
    }
    return files;
  }
  // As if the store had died `deaths` times while it imported `request`.
  void LeaveImporting(const v1::ImportBaseModelRequest& request, int64_t deaths) {
    store_.Stop();
    {
      const auto metadata = *SqliteStoreMetadata::Open(store_.folder() + "/store.db");
      v1::BaseModel base_model;
      base_model.set_name(kBase);
      base_model.set_state(v1::BaseModel::IMPORTING);
      base_model.set_origin("tiny");
      base_model.set_form(v1::BF16);
      ResourceRow row{.name = kBase, .pending = true};
      row.message = base_model.SerializeAsString();
      row.detail = request.SerializeAsString();
      ASSERT_TRUE(metadata
                      ->InsertResource("acme", "baseModels", "ImportBaseModel", row, {}, request,
                                       store_.clock.Now())
                      .ok());
      ASSERT_EQ(*metadata->CountAttempt(kBase, deaths), deaths);
    }
    store_.Start();
  }
  absl::Status Download(const v1::BaseModel& base, const std::string& folder) {
    v1::GetManifestRequest request;
    request.set_parent("tenants/acme");
    request.set_digest(base.manifest_digest());
    request.set_reference(base.name());
    const auto manifest = store_.client().GetManifest(request);
    if (!manifest.ok()) return manifest.status();
    return DownloadFiles(store_.client(), {"acme", base.name()}, *manifest, folder);
  }

  StoreTestServer store_;
};

// ---- Hostile sources ----

TEST_F(StoreImportsTest, TruncatedAndLyingGgufFilesFailWithTheirReasonAndLeaveNothing) {
  const trainer::TinyModel tiny = trainer::MakeTinyModel();
  const std::string whole = trainer::TinyGguf(tiny).Build();
  std::vector<std::string> sources;
  const auto add = [&](const std::string& name, const std::string& bytes) {
    ASSERT_TRUE(WriteFileAtomically(Source() + "/" + name, bytes).ok());
    sources.push_back(name);
  };
  for (int tenth = 0; tenth < 10; ++tenth) {
    add(absl::StrCat("cut", tenth, ".gguf"), whole.substr(0, whole.size() * tenth / 10));
  }
  add("cut_by_one.gguf", whole.substr(0, whole.size() - 1));
  trainer::GgufBuilder lie = trainer::TinyGguf(tiny);
  lie.tensor_count = uint64_t{1} << 60;
  add("tensor_count.gguf", lie.Build());
  lie = trainer::TinyGguf(tiny);
  lie.metadata_count = uint64_t{1} << 60;
  add("metadata_count.gguf", lie.Build());
  lie = trainer::TinyGguf(tiny);
  lie.tensors().front().offset = uint64_t{1} << 40;
  add("offset.gguf", lie.Build());
  lie = trainer::TinyGguf(tiny);
  lie.tensors().front().dimensions = {uint64_t{1} << 32, uint64_t{1} << 32};
  add("dimensions.gguf", lie.Build());
  lie = trainer::TinyGguf(tiny);
  lie.magic = 0x12345678;
  add("magic.gguf", lie.Build());
  lie = trainer::TinyGguf(tiny);
  lie.version = 99;
  add("version.gguf", lie.Build());

  for (const std::string& source : sources) {
    const v1::BaseModel failed = Import(Source() + "/" + source);
    EXPECT_EQ(failed.state(), v1::BaseModel::FAILED) << source;
    EXPECT_EQ(failed.failure().code(), "BASE_MODEL_INVALID") << source;
    EXPECT_EQ(failed.failure().fault(), v1::Failure::USER) << source;
    EXPECT_THAT(failed.failure().message(), HasSubstr(source + ": "));
  }
  EXPECT_THAT(FilesLeft(), ::testing::IsEmpty());
}

TEST_F(StoreImportsTest, DamagedFoldersFailWithTheFileAtFaultAndLeaveNothing) {
  const auto folder = [&](const std::string& name) {
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), Source() + "/" + name, {.shards = 2});
    return Source() + "/" + name;
  };
  const auto replace = [](const std::string& path, const std::string& bytes) {
    ASSERT_TRUE(std::filesystem::exists(path)) << path;
    ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  };
  const std::string shard = "/model-00001-of-00002.safetensors";
  struct BadSource {
    std::string name;
    std::string want;  // Must be in the message.
  };
  std::vector<BadSource> sources;

  replace(folder("truncated") + shard, ReadFile(folder("whole") + shard)->substr(0, 5000));
  sources.push_back({"truncated", "model-00001-of-00002.safetensors"});
  replace(folder("long_header") + shard,
          trainer::GgufBuilder::Bytes(~uint64_t{0}) + std::string(100, ' '));
  sources.push_back({"long_header", "model-00001-of-00002.safetensors"});
  replace(folder("noise") + shard, trainer::GgufBuilder::Bytes(uint64_t{7}) + "{\"a\": [");
  sources.push_back({"noise", "model-00001-of-00002.safetensors"});
  std::filesystem::remove(folder("no_shard") + shard);
  sources.push_back({"no_shard", "model-00001-of-00002.safetensors"});
  std::filesystem::remove(folder("no_config") + "/config.json");
  sources.push_back({"no_config", "config.json"});
  replace(folder("config") + "/config.json", "{\"hidden_size\": -1");
  sources.push_back({"config", "config.json"});
  replace(folder("tokenizer") + "/tokenizer.json", "not JSON");
  sources.push_back({"tokenizer", "tokenizer.json"});

  for (const BadSource& source : sources) {
    const v1::BaseModel failed = Import(Source() + "/" + source.name);
    EXPECT_EQ(failed.state(), v1::BaseModel::FAILED) << source.name;
    EXPECT_EQ(failed.failure().code(), "BASE_MODEL_INVALID") << source.name;
    EXPECT_THAT(failed.failure().message(), HasSubstr(source.want)) << source.name;
  }
  EXPECT_THAT(FilesLeft(), ::testing::IsEmpty());
}

// ---- Damage ----

TEST_F(StoreImportsTest, AFlippedByteOfABaseIsDetectedNamedAndHealedByImportingItAgain) {
  const v1::BaseModel base = Import(TinyFolder());
  ASSERT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
  v1::GetManifestRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(base.manifest_digest());
  const auto manifest = store_.client().GetManifest(request);
  const v1::ManifestFile& weights = *FindFile(*manifest, trainer::kWeightsFile);
  store_.FlipByte(weights.digest(), weights.size_bytes() / 2);

  const absl::Status damaged = Download(base, store_.folder() + "/cache");
  ASSERT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  EXPECT_THAT(std::string(damaged.message()), HasSubstr(trainer::kWeightsFile));
  EXPECT_THAT(std::string(damaged.message()), HasSubstr(weights.digest()));
  EXPECT_THAT(store_.Read(weights.digest(), kBase), ::testing::StartsWith("NOT_FOUND"));

  ASSERT_EQ(Import(TinyFolder(), "again").state(), v1::BaseModel::READY);
  const absl::Status whole = Download(base, store_.folder() + "/cache");
  EXPECT_TRUE(whole.ok()) << whole;
  EXPECT_TRUE(trainer::VerifyModelFolder(store_.folder() + "/cache").ok());
}

// ---- Restarts ----

TEST_F(StoreImportsTest, AnImportThatTheStoreDiedInIsBegunAgain) {
  LeaveImporting(Request(TinyFolder()), /*deaths=*/9);
  const v1::BaseModel base = store_.AwaitImport(kBase);
  EXPECT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
}

TEST_F(StoreImportsTest, AnImportThatTheStoreDiesOfAgainAndAgainIsGivenUp) {
  LeaveImporting(Request(TinyFolder()), /*deaths=*/10);
  const v1::BaseModel base = store_.AwaitImport(kBase);
  ASSERT_EQ(base.state(), v1::BaseModel::FAILED);
  EXPECT_EQ(base.failure().fault(), v1::Failure::PLATFORM);
  EXPECT_THAT(base.failure().message(), HasSubstr("the store ended 10 times"));
  EXPECT_EQ(base.name(), kBase);
  EXPECT_EQ(Import(TinyFolder()).state(), v1::BaseModel::READY) << "a new request begins anew";
}

TEST_F(StoreImportsTest, AnImportWhosePathIsNoLongerAllowedFails) {
  LeaveImporting(Request("/etc/passwd"), /*deaths=*/0);
  const v1::BaseModel base = store_.AwaitImport(kBase);
  ASSERT_EQ(base.state(), v1::BaseModel::FAILED);
  EXPECT_THAT(base.failure().message(), HasSubstr("want a path in a folder given to the store"));
}

TEST_F(StoreImportsTest, StopsInGoodOrderAreNoDeaths) {
  ASSERT_TRUE(store_.client().ImportBaseModel(Request(TinyFolder())).ok());
  for (int i = 0; i < 12; ++i) store_.Restart();
  const v1::BaseModel base = store_.AwaitImport(kBase);
  EXPECT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
}

// ---- Requests ----

TEST_F(StoreImportsTest, OfManyRequestsForAFailedIdExactlyOneReplacesIt) {
  ASSERT_TRUE(WriteFileAtomically(Source() + "/bad.gguf", "noise").ok());
  ASSERT_EQ(Import(Source() + "/bad.gguf").state(), v1::BaseModel::FAILED);
  const v1::ImportBaseModelRequest request = Request(TinyFolder());
  std::atomic<int> won{0}, refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const absl::Status status = store_.client().ImportBaseModel(request).status();
      if (status.ok()) ++won;
      if (absl::IsAlreadyExists(status)) ++refused;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(refused, 7);
  EXPECT_EQ(store_.AwaitImport(kBase).state(), v1::BaseModel::READY);
}

TEST_F(StoreImportsTest, TheSameRequestAgainIsTheSameImport) {
  v1::ImportBaseModelRequest request = Request(TinyFolder());
  request.set_request_id("once");
  ASSERT_TRUE(store_.client().ImportBaseModel(request).ok());
  const v1::BaseModel ready = store_.AwaitImport(kBase);
  const auto again = store_.client().ImportBaseModel(request);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), ready.SerializeAsString());
  request.set_form(v1::F32);
  const auto other = store_.client().ImportBaseModel(request);
  ASSERT_TRUE(absl::IsAlreadyExists(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("form differs"));
}

}  // namespace
}  // namespace deltaworks::services
