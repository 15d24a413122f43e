// Datasets, base models and the validation of training specs over a real server, with a model of
// 20,000 parameters.

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/clients/blob_transfer.h"
#include "services/store/store_test_server.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/formats/manifest.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

constexpr char kBase[] = "tenants/acme/baseModels/tiny";
constexpr char kData[] = "tenants/acme/datasets/d";

// Lines of {"prompt", "completion"}; the tiny tokenizer takes a token for each byte.
std::string Pairs(int count, const std::string& prompt = "ab") {
  std::string jsonl;
  for (int i = 0; i < count; ++i) {
    absl::StrAppend(&jsonl, "{\"prompt\": \"", prompt, "\", \"completion\": \"cd\"}\n");
  }
  return jsonl;
}

class StoreModelsTest : public ::testing::Test {
 protected:
  StoreModelsTest() : store_("store_models", OptionsOf(Source())) {
    SetLogWriter([](absl::string_view) {});
    std::filesystem::remove_all(Source());
    EXPECT_TRUE(MakeDirectories(Source()).ok());
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), Source() + "/tiny");
    EXPECT_TRUE(WriteFileAtomically(Source() + "/tiny.gguf",
                                    trainer::TinyGguf(trainer::MakeTinyModel()).Build())
                    .ok());
  }
  ~StoreModelsTest() override { SetLogWriter(nullptr); }

  static std::string Source() { return ::testing::TempDir() + "/import_from"; }
  static StoreServer::Options OptionsOf(const std::string& import_folder) {
    StoreServer::Options options;
    options.import_folders = {import_folder};
    return options;
  }

  absl::StatusOr<v1::BaseModel> Import(const std::string& path, const std::string& id = "tiny",
                                       v1::NumberType form = v1::BF16) {
    v1::ImportBaseModelRequest request;
    request.set_parent("tenants/acme");
    request.set_base_model_id(id);
    request.set_local_path(path);
    request.set_form(form);
    return store_.client().ImportBaseModel(request);
  }
  v1::BaseModel ImportTiny() {
    const auto started = Import(Source() + "/tiny");
    EXPECT_TRUE(started.ok()) << started.status();
    return store_.AwaitImport(kBase);
  }
  absl::StatusOr<v1::Dataset> Create(const std::string& jsonl, const std::string& id = "d",
                                     const std::string& request_id = "") {
    v1::CreateDatasetRequest request;
    request.set_parent("tenants/acme");
    request.set_dataset_id(id);
    request.mutable_dataset()->set_blob_digest(store_.Upload(jsonl));
    request.set_request_id(request_id);
    return store_.client().CreateDataset(request);
  }
  absl::StatusOr<v1::DatasetReport> Check(const std::string& digest, bool with_base = true) {
    v1::CheckDatasetRequest request;
    request.set_parent("tenants/acme");
    request.set_blob_digest(digest);
    if (with_base) request.set_base_model(kBase);
    return store_.client().CheckDataset(request);
  }
  v1::ValidateTrainingRequest Spec() {
    v1::ValidateTrainingRequest request;
    request.set_parent("tenants/acme");
    request.mutable_spec()->set_base_model(kBase);
    request.mutable_spec()->set_dataset(kData);
    return request;
  }
  // The failure of a spec that cannot work.
  v1::Failure Refusal(const v1::ValidateTrainingRequest& request) {
    const auto response = store_.client().ValidateTraining(request);
    EXPECT_TRUE(response.ok()) << response.status();
    EXPECT_TRUE(response->has_failure());
    EXPECT_FALSE(response->has_facts());
    return response->failure();
  }

  // Counts how often the blob is opened from now on.
  void CountOpens(const std::string& digest) {
    opens_ = 0;
    store_.disk.on_open = [this, digest](const ObjectKey& key) {
      if (key.digest == digest) ++opens_;
      return absl::OkStatus();
    };
  }

  StoreTestServer store_;
  std::atomic<int> opens_{0};
};

// A door in the disk: whoever opens the blob waits in it. Nobody may, once it is destroyed.
class Door {
 public:
  Door(StoreTestServer& store, const std::string& digest) {
    store.disk.on_open = [this, digest](const ObjectKey& key) {
      if (key.digest != digest) return absl::OkStatus();
      if (!reached_.HasBeenNotified()) reached_.Notify();
      opened_.WaitForNotification();
      return absl::OkStatus();
    };
  }
  // Until somebody waits.
  void AwaitOne() { reached_.WaitForNotification(); }
  void Open() { opened_.Notify(); }

 private:
  absl::Notification reached_, opened_;
};

// ---- Datasets ----

TEST_F(StoreModelsTest, ADatasetIsReadLineByLineAndKept) {
  const auto created = Create("{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n");
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->format(), v1::Dataset::TEXT);
  EXPECT_EQ(created->example_count(), 2);
  store_.Advance(absl::Hours(30));
  store_.Restart();
  const auto found = store_.client().GetDataset(kData);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->SerializeAsString(), created->SerializeAsString());
  EXPECT_EQ(store_.Read(found->blob_digest(), kData),
            "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n");
  v1::GetManifestRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(found->manifest_digest());
  request.set_reference(kData);
  const auto manifest = store_.client().GetManifest(request);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->kind(), v1::Manifest::DATASET);
  EXPECT_EQ(manifest->files(0).digest(), found->blob_digest());
}

TEST_F(StoreModelsTest, ABadLineIsNamedByItsNumberAndNothingIsMade) {
  const auto created = Create("{\"text\": \"one\"}\n{\"text\": \nnot JSON\n");
  ASSERT_TRUE(absl::IsInvalidArgument(created.status())) << created.status();
  EXPECT_THAT(std::string(created.status().message()), HasSubstr("line 2: "));
  EXPECT_THAT(std::string(created.status().message()), HasSubstr("(and 1 more problems)"));
  EXPECT_TRUE(absl::IsNotFound(store_.client().GetDataset(kData).status()));
}

TEST_F(StoreModelsTest, AnEmptyFileAndAnAbsentBlobAreNoDatasets) {
  EXPECT_TRUE(absl::IsInvalidArgument(Create("").status()));
  v1::CreateDatasetRequest request;
  request.set_parent("tenants/acme");
  request.mutable_dataset()->set_blob_digest(Sha256Digest("absent"));
  EXPECT_TRUE(absl::IsNotFound(store_.client().CreateDataset(request).status()));
}

TEST_F(StoreModelsTest, TheSameRequestMakesOneDatasetAndAnotherIsRefusedByItsField) {
  const auto first = Create(Pairs(1), "d", "id");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Create(Pairs(1), "d", "id")->SerializeAsString(), first->SerializeAsString());
  const auto other = Create(Pairs(2), "d", "id");
  ASSERT_TRUE(absl::IsAlreadyExists(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("dataset.blob_digest differs"));
  EXPECT_TRUE(absl::IsAlreadyExists(Create(Pairs(1), "d", "new id").status()));
}

TEST_F(StoreModelsTest, TheSameRequestFromManyThreadsMakesOneDataset) {
  v1::CreateDatasetRequest request;
  request.set_parent("tenants/acme");
  request.mutable_dataset()->set_blob_digest(store_.Upload(Pairs(3)));
  request.set_request_id("once");
  std::vector<std::string> names(20);
  std::vector<std::thread> threads;
  for (std::string& name : names) {
    threads.emplace_back([&] {
      const auto created = store_.client().CreateDataset(request);
      EXPECT_TRUE(created.ok()) << created.status();
      name = created->name();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& name : names) EXPECT_EQ(name, names[0]);
  v1::ListDatasetsRequest list;
  list.set_parent("tenants/acme");
  EXPECT_EQ(store_.client().ListDatasets(list)->datasets_size(), 1);
}

TEST_F(StoreModelsTest, DatasetsAreListedNewestFirstInPages) {
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Create(Pairs(1), absl::StrCat("d", i)).ok());
  v1::ListDatasetsRequest request;
  request.set_parent("tenants/acme");
  request.set_page_size(2);
  std::vector<std::string> names;
  do {
    const auto page = store_.client().ListDatasets(request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::Dataset& dataset : page->datasets()) names.push_back(dataset.name());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(names, ElementsAre("tenants/acme/datasets/d4", "tenants/acme/datasets/d3",
                                 "tenants/acme/datasets/d2", "tenants/acme/datasets/d1",
                                 "tenants/acme/datasets/d0"));
  request.set_page_token("noise");
  EXPECT_TRUE(absl::IsInvalidArgument(store_.client().ListDatasets(request).status()));
}

// ---- Import ----

TEST_F(StoreModelsTest, AFolderIsImportedAndItsFilesAreTheStoredBase) {
  const auto started = Import(Source() + "/tiny");
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(started->state(), v1::BaseModel::IMPORTING);
  const v1::BaseModel base = store_.AwaitImport(kBase);
  ASSERT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
  EXPECT_EQ(base.architecture(), "llama");
  EXPECT_EQ(base.form(), v1::BF16);
  EXPECT_EQ(base.origin(), "tiny");
  EXPECT_GT(base.parameter_count(), 0);
  EXPECT_THAT(std::vector<std::string>(base.target_modules().begin(), base.target_modules().end()),
              UnorderedElementsAre("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                                   "down_proj"));
  store_.Advance(absl::Hours(30));
  v1::GetManifestRequest request;
  request.set_parent("tenants/acme");
  request.set_digest(base.manifest_digest());
  request.set_reference(kBase);
  const auto manifest = store_.client().GetManifest(request);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->base_source_digest(), base.source_digest());
  const std::string folder = store_.folder() + "/cache";
  const absl::Status downloaded =
      DownloadFiles(store_.client(), {"acme", kBase}, *manifest, folder);
  ASSERT_TRUE(downloaded.ok()) << downloaded;
  EXPECT_TRUE(trainer::VerifyModelFolder(folder).ok());
  EXPECT_TRUE(std::filesystem::is_empty(store_.folder() + "/imports"));
}

TEST_F(StoreModelsTest, UploadedFilesAndBothFormatsGiveTheSameSource) {
  const v1::BaseModel from_folder = ImportTiny();
  v1::ImportBaseModelRequest request;
  request.set_parent("tenants/acme");
  request.set_base_model_id("uploaded");
  std::string weights;
  for (const auto& entry : std::filesystem::directory_iterator(Source() + "/tiny")) {
    *request.mutable_uploaded_files()->add_files() = *UploadFile(
        store_.client(), "acme", entry.path().filename().string(), entry.path().string());
    if (entry.path().filename() == "model.safetensors") {
      weights = request.uploaded_files().files().rbegin()->digest();
    }
  }
  ASSERT_TRUE(store_.client().ImportBaseModel(request).ok());
  const v1::BaseModel uploaded = store_.AwaitImport("tenants/acme/baseModels/uploaded");
  ASSERT_EQ(uploaded.state(), v1::BaseModel::READY) << uploaded.failure().message();
  EXPECT_EQ(uploaded.source_digest(), from_folder.source_digest());
  // The sources are not needed any more; the result is.
  store_.Advance(absl::Hours(30));
  EXPECT_EQ(store_.Read(weights, "tenants/acme/baseModels/uploaded").substr(0, 9), "NOT_FOUND");

  ASSERT_TRUE(Import(Source() + "/tiny.gguf", "gguf", v1::F32).ok());
  const v1::BaseModel gguf = store_.AwaitImport("tenants/acme/baseModels/gguf");
  ASSERT_EQ(gguf.state(), v1::BaseModel::READY) << gguf.failure().message();
  EXPECT_EQ(gguf.form(), v1::F32);
  EXPECT_EQ(gguf.parameter_count(), from_folder.parameter_count());
}

TEST_F(StoreModelsTest, ASourceThatIsNoModelFailsWithItsReasonAndLeavesTheIdFree) {
  ASSERT_TRUE(WriteFileAtomically(Source() + "/bad.gguf", "GGUF and then noise").ok());
  ASSERT_TRUE(Import(Source() + "/bad.gguf").ok());
  const v1::BaseModel failed = store_.AwaitImport(kBase);
  EXPECT_EQ(failed.state(), v1::BaseModel::FAILED);
  EXPECT_EQ(failed.failure().code(), "BASE_MODEL_INVALID");
  EXPECT_EQ(failed.failure().fault(), v1::Failure::USER);
  EXPECT_THAT(failed.failure().message(), HasSubstr("bad.gguf"));
  EXPECT_EQ(ImportTiny().state(), v1::BaseModel::READY);
  EXPECT_TRUE(absl::IsAlreadyExists(Import(Source() + "/tiny").status()));
}

TEST_F(StoreModelsTest, PathsOutsideTheGivenFoldersAreDeniedWhetherTheyExistOrNot) {
  for (const std::string& path : {std::string("/etc/passwd"), std::string("/absent"),
                                  Source() + "/../store_models/tokens", std::string("/")}) {
    EXPECT_TRUE(absl::IsPermissionDenied(Import(path).status())) << path;
  }
  std::filesystem::create_symlink("/etc", Source() + "/link");
  EXPECT_TRUE(absl::IsPermissionDenied(Import(Source() + "/link/passwd").status()));
  EXPECT_TRUE(absl::IsNotFound(Import(Source() + "/absent").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Import("tiny").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Import("").status()));
}

TEST_F(StoreModelsTest, AnImportCutByARestartIsBegunAgain) {
  ASSERT_TRUE(Import(Source() + "/tiny").ok());
  store_.Restart();
  const v1::BaseModel base = store_.AwaitImport(kBase);
  EXPECT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
}

TEST_F(StoreModelsTest, ImportsThatWaitHaveABound) {
  store_.options().imports_waiting_max = 2;
  store_.Restart();
  // An import of an uploaded file that stands behind a door.
  v1::ImportBaseModelRequest request;
  request.set_parent("tenants/acme");
  request.set_base_model_id("stuck");
  v1::ManifestFile& file = *request.mutable_uploaded_files()->add_files();
  file = *UploadBytes(store_.client(), "acme", "tiny.gguf", *ReadFile(Source() + "/tiny.gguf"));
  Door door(store_, file.digest());
  ASSERT_TRUE(store_.client().ImportBaseModel(request).ok());
  door.AwaitOne();
  // Many at once ask for the one place that is left.
  std::atomic<int> begun{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const absl::Status status = Import(Source() + "/tiny", absl::StrCat("tiny", i)).status();
      if (status.ok()) {
        ++begun;
        return;
      }
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_EQ(status.message(), "2 imports wait, want fewer than 2 (imports_waiting_max)");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(begun, 1);
  door.Open();
  EXPECT_EQ(store_.AwaitImport("tenants/acme/baseModels/stuck").state(), v1::BaseModel::READY);
  EXPECT_EQ(ImportTiny().state(), v1::BaseModel::READY) << "there is room again";
}

TEST_F(StoreModelsTest, AFullDiskDuringAnImportFailsItClearlyAndLosesNothing) {
  ASSERT_TRUE(Create(Pairs(2)).ok());
  store_.disk.room = 10;
  ASSERT_TRUE(Import(Source() + "/tiny").ok());
  const v1::BaseModel failed = store_.AwaitImport(kBase);
  EXPECT_EQ(failed.state(), v1::BaseModel::FAILED);
  EXPECT_EQ(failed.failure().code(), "DISK_FULL");
  EXPECT_EQ(failed.failure().fault(), v1::Failure::PLATFORM);
  EXPECT_TRUE(std::filesystem::is_empty(store_.folder() + "/imports"));
  EXPECT_TRUE(store_.client().GetDataset(kData).ok());
  store_.disk.room = INT64_MAX;
  EXPECT_EQ(ImportTiny().state(), v1::BaseModel::READY);
}

// ---- Texts ----

TEST_F(StoreModelsTest, ACheckReportsEveryProblemAndTheTokensOfTheGoodLines) {
  ImportTiny();
  const std::string digest = store_.Upload(Pairs(2) + "{\"prompt\": 1}\n" + Pairs(1) + "x\n");
  const auto report = Check(digest);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->problem_count(), 2);
  EXPECT_EQ(report->problems(0).line(), 3);
  EXPECT_EQ(report->problems(1).line(), 5);
  EXPECT_EQ(report->example_count(), 3);
  EXPECT_EQ(report->format(), v1::Dataset::PROMPT_COMPLETION);
  EXPECT_GT(report->tokens(), 0);
  EXPECT_GT(report->label_tokens(), 0);
  EXPECT_LE(report->tokens_min(), report->tokens_p95());
  const auto form_only = Check(digest, /*with_base=*/false);
  EXPECT_EQ(form_only->problem_count(), 2);
  EXPECT_EQ(form_only->tokens(), 0);
}

TEST_F(StoreModelsTest, AReportCountsTokensCutsAndLabels) {
  ImportTiny();
  // A token for each byte and one for the end: example n has n + 3, of which 3 are labels.
  std::string jsonl;
  for (int n = 1; n <= 100; ++n) absl::StrAppend(&jsonl, Pairs(1, std::string(n, 'x')));
  absl::StrAppend(&jsonl, Pairs(1, std::string(257 - 3, 'x')));
  v1::CheckDatasetRequest request;
  request.set_parent("tenants/acme");
  request.set_blob_digest(store_.Upload(jsonl));
  request.set_base_model(kBase);
  request.mutable_text()->set_max_length(53);
  request.mutable_text()->set_truncation(v1::TextSettings::SKIP);
  const auto report = store_.client().CheckDataset(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->problem_count(), 0);
  EXPECT_EQ(report->example_count(), 101);
  EXPECT_EQ(report->tokens(), 100 * 101 / 2 + 100 * 3 + 257);
  EXPECT_EQ(report->tokens_min(), 4);
  EXPECT_EQ(report->tokens_median(), 54);
  EXPECT_EQ(report->tokens_p95(), 99);
  EXPECT_EQ(report->tokens_max(), 257);
  EXPECT_EQ(report->too_long_count(), 51);
  EXPECT_EQ(report->train_examples(), 50);
  EXPECT_EQ(report->train_tokens(), 50 * 51 / 2 + 50 * 3);
  EXPECT_EQ(report->label_tokens(), 50 * 3);
  ASSERT_EQ(report->longer_than_size(), 2);
  EXPECT_EQ(report->longer_than(0).length_tokens(), 256);
  EXPECT_EQ(report->longer_than(0).count(), 1);
  EXPECT_EQ(report->longer_than(1).length_tokens(), 512);
  EXPECT_EQ(report->longer_than(1).count(), 0);
}

TEST_F(StoreModelsTest, ProblemsAreCountedBeyondThoseListed) {
  const auto report = Check(store_.Upload([] {
    std::string jsonl;
    for (int i = 0; i < 1500; ++i) absl::StrAppend(&jsonl, "{\"text\": ", i, "}\n");
    return jsonl;
  }()),
                            /*with_base=*/false);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->problem_count(), 1500);
  ASSERT_EQ(report->problems_size(), 1000);
  EXPECT_EQ(report->problems(999).line(), 1000);
}

TEST_F(StoreModelsTest, OneReportAskedForByManyIsTheSameForAll) {
  ImportTiny();
  const std::string alone = store_.Upload(Pairs(499));
  CountOpens(alone);
  ASSERT_TRUE(Check(alone).ok());
  const int opens_of_one = opens_;
  const std::string digest = store_.Upload(Pairs(500));
  CountOpens(digest);
  std::vector<std::string> answers(16);
  std::vector<std::thread> threads;
  for (std::string& answer : answers) {
    threads.emplace_back([&] {
      const auto report = Check(digest);
      EXPECT_TRUE(report.ok()) << report.status();
      answer = report->SerializeAsString();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& answer : answers) EXPECT_EQ(answer, answers[0]);
  EXPECT_EQ(opens_, opens_of_one) << "computed once";
}

TEST_F(StoreModelsTest, ABlobTooLargeForADatasetIsRefusedBeforeItIsRead) {
  StoreServer::Options options = OptionsOf(Source());
  options.datasets.dataset_bytes_max = 50;
  StoreTestServer small("store_models_small", options);
  v1::CreateDatasetRequest request;
  request.set_parent("tenants/acme");
  request.mutable_dataset()->set_blob_digest(small.Upload(Pairs(10)));
  const auto created = small.client().CreateDataset(request);
  ASSERT_TRUE(absl::IsResourceExhausted(created.status())) << created.status();
  EXPECT_THAT(std::string(created.status().message()),
              HasSubstr("want at most 50 for a dataset (dataset_bytes_max)"));
  v1::CheckDatasetRequest check;
  check.set_parent("tenants/acme");
  check.set_blob_digest(request.dataset().blob_digest());
  EXPECT_TRUE(absl::IsResourceExhausted(small.client().CheckDataset(check).status()));
}

TEST_F(StoreModelsTest, ReportsThatWaitHaveABound) {
  store_.options().texts.reports_at_once_max = 1;
  store_.options().texts.reports_waiting_max = 1;
  store_.Restart();
  ImportTiny();
  std::vector<std::string> digests;
  for (int i = 1; i <= 3; ++i) digests.push_back(store_.Upload(Pairs(i)));
  Door door(store_, digests[0]);
  std::thread first([&] { EXPECT_TRUE(Check(digests[0]).ok()); });
  door.AwaitOne();
  // Of two more, one waits and the other is refused, whichever comes first.
  absl::Notification refused;
  std::atomic<int> done{0};
  std::vector<std::thread> others;
  for (int i = 1; i <= 2; ++i) {
    others.emplace_back([&, i] {
      const auto report = Check(digests[i]);
      if (report.ok()) {
        ++done;
        return;
      }
      EXPECT_TRUE(absl::IsResourceExhausted(report.status())) << report.status();
      EXPECT_EQ(report.status().message(),
                "1 reports wait, want fewer than 1 (reports_waiting_max)");
      refused.Notify();
    });
  }
  EXPECT_TRUE(refused.WaitForNotificationWithTimeout(absl::Seconds(30)));
  door.Open();
  first.join();
  for (std::thread& thread : others) thread.join();
  EXPECT_EQ(done, 1);
  EXPECT_THAT(store_.metrics().Text(), HasSubstr("deltaworks_store_limits_reached_total 1\n"));
}

TEST_F(StoreModelsTest, CallsThatReadAWholeBlobHaveABoundAndAreRefusedBeyondIt) {
  store_.options().whole_reads_at_once_max = 1;
  store_.Restart();
  ImportTiny();
  const std::string digest = store_.Upload(Pairs(1));
  const std::string other = store_.Upload(Pairs(2));
  Door door(store_, digest);
  std::thread first([&] { EXPECT_TRUE(Check(digest, /*with_base=*/false).ok()); });
  door.AwaitOne();
  v1::CreateDatasetRequest create;
  create.set_parent("tenants/acme");
  create.mutable_dataset()->set_blob_digest(other);
  v1::PreviewDatasetRequest preview;
  preview.set_parent("tenants/acme");
  preview.set_blob_digest(other);
  preview.set_base_model(kBase);
  v1::ReportCorruptBlobRequest report;
  report.set_parent("tenants/acme");
  report.set_digest(other);
  for (const absl::Status& status :
       {Check(other, /*with_base=*/false).status(), store_.client().CreateDataset(create).status(),
        store_.client().PreviewDataset(preview).status(),
        store_.client().ReportCorruptBlob(report).status()}) {
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("(whole_reads_at_once_max)"));
  }
  EXPECT_TRUE(Check(other).ok()) << "reports have a bound of their own";
  door.Open();
  first.join();
  EXPECT_TRUE(store_.client().CreateDataset(create).ok());
}

TEST_F(StoreModelsTest, AReportIsKeptAndIsNoPermission) {
  ImportTiny();
  const std::string digest = store_.Upload(Pairs(2));
  const auto first = Check(digest);
  ASSERT_TRUE(first.ok()) << first.status();
  store_.options().texts.reports_waiting_max = 0;  // Nothing can be computed any more.
  store_.Restart();
  const auto kept = Check(digest);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->SerializeAsString(), first->SerializeAsString());
  store_.Advance(absl::Hours(30));
  EXPECT_TRUE(absl::IsNotFound(Check(digest).status()));
}

TEST_F(StoreModelsTest, AProblemQuotesWholeCharacters) {
  ImportTiny();
  // The end of the quotation would fall within a character.
  std::string text = "x";
  for (int i = 0; i < 30; ++i) text += "\xE2\x82\xAC";
  const std::string digest =
      store_.Upload(absl::StrCat(R"({"messages": [{"role": "user", "content": ")", text,
                                 R"(<|im_end|>"}, {"role": "assistant", "content": "b"}]})", "\n"));
  const auto report = Check(digest);  // An answer with half a character could not be read.
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->problem_count(), 1) << report->DebugString();
  EXPECT_THAT(report->problems(0).message(), HasSubstr("\xE2\x82\xAC..."));
}

TEST_F(StoreModelsTest, ACheckNeedsAReadyBase) {
  const std::string digest = store_.Upload(Pairs(2));
  EXPECT_TRUE(absl::IsNotFound(Check(digest).status()));
  ASSERT_TRUE(WriteFileAtomically(Source() + "/bad.gguf", "noise").ok());
  ASSERT_TRUE(Import(Source() + "/bad.gguf").ok());
  store_.AwaitImport(kBase);
  const auto report = Check(digest);
  ASSERT_TRUE(absl::IsFailedPrecondition(report.status())) << report.status();
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("is FAILED, want READY"));
}

TEST_F(StoreModelsTest, APreviewMarksExactlyTheTokensThatCount) {
  ImportTiny();
  ASSERT_TRUE(Create(Pairs(4)).ok());
  v1::PreviewDatasetRequest request;
  request.set_parent("tenants/acme");
  request.set_dataset(kData);
  request.set_base_model(kBase);
  request.set_first_example(1);
  request.set_example_count(2);
  const auto preview = store_.client().PreviewDataset(request);
  ASSERT_TRUE(preview.ok()) << preview.status();
  ASSERT_EQ(preview->examples_size(), 2);
  const v1::ExamplePreview& example = preview->examples(0);
  EXPECT_EQ(example.line(), 2);
  ASSERT_EQ(example.pieces_size(), 2);
  EXPECT_EQ(example.pieces(0).text(), "ab");
  EXPECT_FALSE(example.pieces(0).has_label());
  EXPECT_THAT(example.pieces(1).text(), ::testing::StartsWith("cd"));
  EXPECT_TRUE(example.pieces(1).has_label());
  EXPECT_EQ(example.label_count(), example.pieces(1).token_ids_size());
  EXPECT_EQ(example.token_count(),
            example.pieces(0).token_ids_size() + example.pieces(1).token_ids_size());
  request.set_first_example(4);
  EXPECT_TRUE(absl::IsOutOfRange(store_.client().PreviewDataset(request).status()));
  request.set_first_example(0);
  request.set_example_count(101);
  EXPECT_TRUE(absl::IsInvalidArgument(store_.client().PreviewDataset(request).status()));
  request.set_example_count(1);
  request.clear_base_model();
  EXPECT_TRUE(absl::IsInvalidArgument(store_.client().PreviewDataset(request).status()));
}

TEST_F(StoreModelsTest, APreviewReadsNoFurtherThanTheExamplesItShows) {
  ImportTiny();
  v1::PreviewDatasetRequest request;
  request.set_parent("tenants/acme");
  request.set_blob_digest(store_.Upload(Pairs(2) + "no JSON\n"));
  request.set_base_model(kBase);
  request.set_example_count(2);
  const auto preview = store_.client().PreviewDataset(request);
  ASSERT_TRUE(preview.ok()) << preview.status();
  EXPECT_EQ(preview->examples_size(), 2);
  request.set_example_count(3);
  const auto bad = store_.client().PreviewDataset(request);
  ASSERT_TRUE(absl::IsInvalidArgument(bad.status())) << bad.status();
  EXPECT_THAT(std::string(bad.status().message()), HasSubstr("line 3: "));
}

TEST_F(StoreModelsTest, TheModelThatWasNotUsedForLongestIsReadAgain) {
  std::vector<std::string> names, manifests;
  for (size_t i = 0; i <= TextModels::kKeptMax; ++i) {
    const std::string id = absl::StrCat("m", i);
    const auto seed = static_cast<uint32_t>(i + 1);
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(true, seed), Source() + "/" + id);
    ASSERT_TRUE(Import(Source() + "/" + id, id).ok());
    const v1::BaseModel base = store_.AwaitImport("tenants/acme/baseModels/" + id);
    ASSERT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
    names.push_back(base.name());
    manifests.push_back(base.manifest_digest());
  }
  v1::PreviewDatasetRequest request;
  request.set_parent("tenants/acme");
  request.set_blob_digest(store_.Upload(Pairs(1)));
  // Whether the model had to be read.
  const auto reads = [&](size_t i) {
    CountOpens(manifests[i]);
    request.set_base_model(names[i]);
    const auto preview = store_.client().PreviewDataset(request);
    EXPECT_TRUE(preview.ok()) << preview.status();
    return opens_ > 0;
  };
  for (size_t i = 0; i < TextModels::kKeptMax; ++i) EXPECT_TRUE(reads(i)) << i;
  EXPECT_FALSE(reads(0));
  EXPECT_TRUE(reads(TextModels::kKeptMax));
  EXPECT_FALSE(reads(0)) << "used last but one";
  EXPECT_TRUE(reads(1)) << "used before all others";
}

TEST_F(StoreModelsTest, APreviewOfAChatShowsTheTemplateAndEachTurnThatCounts) {
  ImportTiny();
  ASSERT_TRUE(Create("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"},"
                     "{\"role\": \"assistant\", \"content\": \"b\"},"
                     "{\"role\": \"user\", \"content\": \"c\"},"
                     "{\"role\": \"assistant\", \"content\": \"d\"}]}\n")
                  .ok());
  v1::PreviewDatasetRequest request;
  request.set_parent("tenants/acme");
  request.set_dataset(kData);
  request.set_base_model(kBase);
  const auto pieces = [&] {
    const auto preview = store_.client().PreviewDataset(request);
    EXPECT_TRUE(preview.ok()) << preview.status();
    std::vector<std::string> texts;
    for (const v1::PreviewPiece& piece : preview->examples(0).pieces()) {
      texts.push_back((piece.has_label() ? "+" : "-") + piece.text());
    }
    return texts;
  };
  const std::string ask = "<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_THAT(pieces(), ElementsAre("-<|im_start|>user\na" + ask, "+b<|im_end|>",
                                    "-\n<|im_start|>user\nc" + ask, "+d<|im_end|>", "-\n"));
  request.mutable_text()->set_train_on(v1::TextSettings::ASSISTANT_LAST);
  EXPECT_THAT(pieces(),
              ElementsAre("-<|im_start|>user\na" + ask + "b<|im_end|>\n<|im_start|>user\nc" + ask,
                          "+d<|im_end|>", "-\n"));
}

TEST_F(StoreModelsTest, APreviewShowsWhatALimitCutsAndSkips) {
  ImportTiny();
  ASSERT_TRUE(Create(Pairs(1, std::string(30, 'x')) + "{\"prompt\": \"x\", \"completion\": \"" +
                     std::string(30, 'y') + "\"}\n")
                  .ok());
  v1::PreviewDatasetRequest request;
  request.set_parent("tenants/acme");
  request.set_dataset(kData);
  request.set_base_model(kBase);
  request.mutable_text()->set_max_length(10);
  request.mutable_text()->set_truncation(v1::TextSettings::SKIP);
  const auto skipped = store_.client().PreviewDataset(request);
  ASSERT_TRUE(skipped.ok()) << skipped.status();
  EXPECT_TRUE(skipped->examples(0).skipped());
  EXPECT_EQ(skipped->examples(0).token_count(), 33) << "a skipped example is shown whole";
  request.mutable_text()->set_truncation(v1::TextSettings::TRUNCATE);
  request.set_first_example(1);
  const auto cut = store_.client().PreviewDataset(request);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_TRUE(cut->examples(0).truncated());
  EXPECT_EQ(cut->examples(0).token_count(), 10);
  EXPECT_EQ(cut->examples(0).pieces(1).text(), std::string(9, 'y'));
  request.set_first_example(0);
  const auto problem = store_.client().PreviewDataset(request);
  ASSERT_TRUE(absl::IsInvalidArgument(problem.status())) << "no label is left";
  EXPECT_THAT(std::string(problem.status().message()), HasSubstr("line 1: "));
}

// ---- Validation ----

TEST_F(StoreModelsTest, ASpecThatWorksIsResolvedAndCounted) {
  const v1::BaseModel base = ImportTiny();
  const auto dataset = Create(Pairs(20));
  const auto response = store_.client().ValidateTraining(Spec());
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_FALSE(response->has_failure()) << response->failure().message();
  const v1::TrainFacts& facts = response->facts();
  EXPECT_EQ(facts.base_source_digest(), base.source_digest());
  EXPECT_EQ(facts.base_manifest_digest(), base.manifest_digest());
  EXPECT_EQ(facts.dataset_manifest_digest(), dataset->manifest_digest());
  EXPECT_EQ(facts.train_examples(), 20);
  EXPECT_EQ(facts.total_steps(), 3 * 3) << "20 examples in steps of 8, three epochs";
  v1::ValidateTrainingRequest of_gang = Spec();
  of_gang.set_gang_size(2);
  const auto shared = store_.client().ValidateTraining(of_gang);
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_EQ(shared->facts().total_steps(), 3 * 2) << "steps of 8 examples by each of two";
  EXPECT_EQ(facts.total_parameters(), base.parameter_count());
  EXPECT_GT(facts.trainable_parameters(), 0);
  EXPECT_GT(facts.memory_bytes_max(), base.size_bytes());
  const v1::MemoryNeed& memory = facts.memory();
  EXPECT_GE(memory.rows(), response->spec().micro_batch_tokens());
  EXPECT_EQ(facts.memory_bytes_max(),
            memory.base_bytes() + memory.own_bytes() + memory.pass_bytes() +
                memory.rows() * absl::c_accumulate(memory.hidden_row_bytes(), memory.row_bytes()));
  EXPECT_GT(facts.label_tokens(), 0);
  const int32_t context = base.context_length_tokens();
  EXPECT_EQ(response->spec().text().max_length(), std::min(1024, context));
  EXPECT_EQ(response->spec().compute_type(), v1::BF16);
  EXPECT_EQ(response->spec().micro_batch_tokens(), 2048);
}

TEST_F(StoreModelsTest, WhatCannotWorkIsAnAnswerWithTheFieldAtFault) {
  const v1::BaseModel base = ImportTiny();
  ASSERT_TRUE(Create(Pairs(2)).ok());
  v1::ValidateTrainingRequest request = Spec();
  request.mutable_spec()->set_base_model("tenants/acme/baseModels/absent");
  EXPECT_EQ(Refusal(request).field(), "train.base_model");
  request.mutable_spec()->set_base_model("tenants/other/baseModels/tiny");
  EXPECT_EQ(Refusal(request).field(), "train.base_model");

  request = Spec();
  request.mutable_spec()->set_dataset("tenants/acme/datasets/absent");
  EXPECT_EQ(Refusal(request).field(), "train.dataset");

  request = Spec();
  request.mutable_spec()->mutable_lora()->add_target_modules("w_proj");
  v1::Failure failure = Refusal(request);
  EXPECT_EQ(failure.field(), "train.lora.target_modules");
  EXPECT_EQ(failure.fault(), v1::Failure::USER);
  EXPECT_EQ(failure.message(),
            "target_modules has \"w_proj\", want a module of this base: down_proj, gate_proj, "
            "k_proj, o_proj, q_proj, up_proj, v_proj, or all-linear");

  request = Spec();
  request.mutable_spec()->mutable_lora()->set_rank(0);
  failure = Refusal(request);
  EXPECT_EQ(failure.field(), "train.lora.rank");
  EXPECT_EQ(failure.message(), "rank is 0, want 1..1024");

  request = Spec();
  (*request.mutable_spec()->mutable_lora()->mutable_rank_pattern())["q_proj"] = 0;
  EXPECT_EQ(Refusal(request).field(), "train.lora.rank_pattern");

  request = Spec();
  request.mutable_spec()->mutable_arguments()->set_learning_rate(-1);
  EXPECT_EQ(Refusal(request).field(), "train.arguments.learning_rate");

  request = Spec();
  request.mutable_spec()->mutable_text()->set_max_length(base.context_length_tokens() + 1);
  failure = Refusal(request);
  EXPECT_EQ(failure.field(), "train.text.max_length");

  request = Spec();
  request.mutable_spec()->mutable_text()->set_max_length(100);
  request.mutable_spec()->set_micro_batch_tokens(99);
  EXPECT_EQ(Refusal(request).field(), "train.micro_batch_tokens");

  request = Spec();
  request.mutable_spec()->set_compute_type(v1::F32);
  failure = Refusal(request);
  EXPECT_EQ(failure.field(), "train.compute_type");
  EXPECT_THAT(failure.message(), HasSubstr("compute_type is F32, want BF16, the form of"));
  EXPECT_THAT(failure.message(), HasSubstr(", or FP8"));

  request = Spec();
  request.mutable_spec()->mutable_arguments()->set_warmup_steps(1000);
  EXPECT_EQ(Refusal(request).field(), "train.arguments.warmup_steps");
}

TEST_F(StoreModelsTest, Fp8IsNoFormButTrainsOverABaseInBf16) {
  const absl::Status form = Import(Source() + "/tiny", "codes", v1::FP8).status();
  EXPECT_TRUE(absl::IsInvalidArgument(form)) << form;
  EXPECT_THAT(std::string(form.message()), HasSubstr("form is FP8, want F32 or BF16"));

  ImportTiny();
  ASSERT_TRUE(Import(Source() + "/tiny", "wide", v1::F32).ok());
  const v1::BaseModel wide = store_.AwaitImport("tenants/acme/baseModels/wide");
  ASSERT_TRUE(Create(Pairs(2)).ok());
  v1::ValidateTrainingRequest request = Spec();
  request.mutable_spec()->set_compute_type(v1::FP8);
  const auto accepted = store_.client().ValidateTraining(request);
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_FALSE(accepted->has_failure()) << accepted->failure().message();
  EXPECT_EQ(accepted->spec().compute_type(), v1::FP8);
  request.mutable_spec()->set_base_model(wide.name());
  const v1::Failure failure = Refusal(request);
  EXPECT_EQ(failure.field(), "train.compute_type");
  EXPECT_THAT(failure.message(), HasSubstr("compute_type is FP8, want F32, the form of"));
}

TEST_F(StoreModelsTest, AnExampleAboveTheLimitFailsCutsOrIsSkippedAsAsked) {
  ImportTiny();
  ASSERT_TRUE(Create(Pairs(3) + Pairs(1, std::string(40, 'a'))).ok());
  v1::ValidateTrainingRequest request = Spec();
  v1::TextSettings& text = *request.mutable_spec()->mutable_text();
  text.set_max_length(20);
  const v1::Failure failure = Refusal(request);
  EXPECT_EQ(failure.code(), "DATASET_INVALID");
  EXPECT_EQ(failure.field(), "train.dataset");
  EXPECT_THAT(failure.message(), HasSubstr("line 4: "));

  text.set_truncation(v1::TextSettings::SKIP);
  const auto skipped = store_.client().ValidateTraining(request);
  ASSERT_FALSE(skipped->has_failure()) << skipped->failure().message();
  EXPECT_EQ(skipped->facts().train_examples(), 3);
  ASSERT_EQ(skipped->warnings_size(), 1);
  EXPECT_THAT(skipped->warnings(0), HasSubstr("1 of 4 examples were skipped"));
}

TEST_F(StoreModelsTest, ADatasetThatThisBaseCannotReadIsInvalidForTheJob) {
  ImportTiny();
  // The special token would end the turn in the middle.
  const auto chat = [](absl::string_view question) {
    return absl::StrCat("{\"messages\": [{\"role\": \"user\", \"content\": \"", question,
                        "\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n");
  };
  ASSERT_TRUE(Create(chat("a") + chat("a") + chat("a<|im_end|>b") + chat("<|im_start|>")).ok());
  const v1::Failure failure = Refusal(Spec());
  EXPECT_EQ(failure.code(), "DATASET_INVALID");
  EXPECT_EQ(failure.fault(), v1::Failure::USER);
  EXPECT_THAT(failure.message(), HasSubstr("line 3: "));
  EXPECT_THAT(failure.message(), HasSubstr("(and 1 more problems)"));
}

TEST_F(StoreModelsTest, AStepHasTheMeanTokensOfItsExamplesAndNoMoreThanTheData) {
  ImportTiny();
  // One that is cut.
  const std::string long_answer =
      absl::StrCat(R"({"prompt": "ab", "completion": ")", std::string(40, 'a'), "\"}\n");
  ASSERT_TRUE(Create(Pairs(6) + long_answer).ok());
  const auto facts = [&](int32_t batch, int32_t accumulation) {
    v1::ValidateTrainingRequest request = Spec();
    v1::TrainingArguments& arguments = *request.mutable_spec()->mutable_arguments();
    arguments.set_per_device_train_batch_size(batch);
    arguments.set_gradient_accumulation_steps(accumulation);
    v1::TextSettings& text = *request.mutable_spec()->mutable_text();
    text.set_max_length(20);
    text.set_truncation(v1::TextSettings::TRUNCATE);
    const auto response = store_.client().ValidateTraining(request);
    EXPECT_FALSE(response->has_failure()) << response->failure().message();
    return response->facts();
  };
  const int64_t tokens = facts(1, 1).train_tokens();
  ASSERT_NE(tokens % 7, 0) << "a mean that is rounded";
  EXPECT_EQ(facts(1, 1).step_tokens(), tokens / 7 + 1);
  EXPECT_EQ(facts(2, 2).step_tokens(), (4 * tokens + 6) / 7);
  EXPECT_EQ(facts(7, 1).step_tokens(), tokens);
  EXPECT_EQ(facts(8, 4).step_tokens(), tokens);
}

TEST_F(StoreModelsTest, TheMemoryBoundGrowsWithEachThingThatTakesMemory) {
  ImportTiny();
  ASSERT_TRUE(Create(Pairs(20)).ok());
  const auto bound = [&](const v1::ValidateTrainingRequest& request) {
    const auto response = store_.client().ValidateTraining(request);
    EXPECT_FALSE(response->has_failure()) << response->failure().message();
    return response->facts().memory_bytes_max();
  };
  const int64_t plain = bound(Spec());
  v1::ValidateTrainingRequest request = Spec();
  request.mutable_spec()->mutable_lora()->set_rank(64);
  EXPECT_GT(bound(request), plain);
  request = Spec();
  request.mutable_spec()->set_micro_batch_tokens(65'536);
  EXPECT_GT(bound(request), plain);
}

TEST_F(StoreModelsTest, ValidationDataMustHaveTheSameForm) {
  ImportTiny();
  ASSERT_TRUE(Create(Pairs(2)).ok());
  ASSERT_TRUE(Create("{\"text\": \"x\"}\n", "held-out").ok());
  v1::ValidateTrainingRequest request = Spec();
  request.mutable_spec()->set_validation_dataset("tenants/acme/datasets/held-out");
  EXPECT_EQ(Refusal(request).field(), "train.validation_dataset");
  request.mutable_spec()->set_validation_dataset(kData);
  const auto response = store_.client().ValidateTraining(request);
  ASSERT_FALSE(response->has_failure()) << response->failure().message();
  EXPECT_EQ(response->facts().validation_examples(), 2);
  EXPECT_EQ(response->facts().validation_manifest_digest(),
            response->facts().dataset_manifest_digest());
}

TEST_F(StoreModelsTest, DamagedBytesOfADatasetAreThePlatformsFault) {
  ImportTiny();
  const auto dataset = Create(Pairs(2));
  store_.FlipByte(dataset->blob_digest(), 5);
  const v1::Failure failure = Refusal(Spec());
  EXPECT_EQ(failure.code(), "BLOB_CORRUPT");
  EXPECT_EQ(failure.fault(), v1::Failure::PLATFORM);
  EXPECT_THAT(failure.message(), HasSubstr(dataset->blob_digest()));
}

}  // namespace
}  // namespace deltaworks::services
