// The store's process as its users and its machine treat it: killed, started twice, with a disk
// that becomes full under it (tests/full_disk). Runs the real program.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/service_main.h"
#include "services/base/token_file.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/channel.h"
#include "services/clients/grpc_store_client.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/import/tiny_model.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr char kProgram[] = "services/store/store";
constexpr char kFullDisk[] = "tests/full_disk/libfull_disk.so";
constexpr char kBase[] = "tenants/acme/baseModels/tiny";
constexpr int64_t kMiB = int64_t{1} << 20;

using Environment = std::map<std::string, std::string>;

class StoreProcessTest : public ::testing::Test {
 protected:
  StoreProcessTest() {
    std::filesystem::remove_all(folder_);
    CHECK(MakeDirectories(folder_ + "/from").ok());
    const auto token = TokenFile::AddToken(folder_ + "/tokens", "acme");
    CHECK(token.ok()) << token.status();
    token_ = *token;
  }
  ~StoreProcessTest() override { Kill(); }

  // Starts a store; its exit code can be asked with Wait().
  void Launch(const Environment& environment = {}, const std::vector<std::string>& flags = {}) {
    unlink(PortFile().c_str());
    std::vector<std::string> arguments = {kProgram,
                                          "--data_folder=" + folder_ + "/data",
                                          "--import_folder=" + folder_ + "/from",
                                          "--tokens_file=" + folder_ + "/tokens",
                                          "--address=127.0.0.1:0",
                                          "--metrics_address=127.0.0.1:0",
                                          "--port_file=" + PortFile()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    CHECK_GE(pid_, 0);
    if (pid_ != 0) return;
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    const int fd = open(LogFile().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    execv(kProgram, argv.data());
    _exit(99);
  }
  // Starts a store and waits, bounded, until it answers.
  void Start(const Environment& environment = {}) {
    Launch(environment);
    int port = 0;
    for (int i = 0; i < 3000 && port == 0; ++i) {
      const auto text = ReadFile(PortFile());
      if (!text.ok() || !absl::SimpleAtoi(*text, &port)) absl::SleepFor(absl::Milliseconds(10));
    }
    CHECK_GT(port, 0) << *ReadFile(LogFile());
    Channel channel = MakeChannel(absl::StrCat("127.0.0.1:", port), token_);
    client_ = MakeGrpcStoreClient(channel);
  }
  // With room for `bytes` more in `part` of the data folder.
  void StartOnFullDisk(const std::string& part, int64_t bytes) {
    Start({{"LD_PRELOAD", std::filesystem::absolute(kFullDisk).string()},
           {"FULL_DISK_FOLDER", folder_ + "/data" + part},
           {"FULL_DISK_AFTER_BYTES", absl::StrCat(bytes)},
           {"FULL_DISK_ROOM_FILE", RoomFile()}});
  }
  int Wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    Wait();
  }

  v1::Upload CreateUpload(const std::string& data) {
    v1::CreateUploadRequest request;
    request.set_parent("tenants/acme");
    request.set_digest(Sha256Digest(data));
    request.set_size_bytes(static_cast<int64_t>(data.size()));
    const auto upload = client_->CreateUpload(request);
    CHECK(upload.ok()) << upload.status();
    return *upload;
  }
  absl::StatusOr<v1::Upload> Write(const v1::Upload& upload, const std::string& data, int64_t end) {
    return client_->WriteUpload(
        upload.name(), upload.committed_size_bytes(), [&](int64_t at, std::string& piece) {
          piece =
              data.substr(static_cast<size_t>(at), static_cast<size_t>(std::min(kMiB, end - at)));
          return absl::OkStatus();
        });
  }
  absl::StatusOr<std::string> Read(const std::string& data) {
    return DownloadBytes(*client_, {"acme", ""}, Sha256Digest(data), 1 << 30);
  }
  absl::Status Import() {
    trainer::WriteTinyHfFolder(trainer::MakeTinyModel(), folder_ + "/from/tiny");
    v1::ImportBaseModelRequest request;
    request.set_parent("tenants/acme");
    request.set_base_model_id("tiny");
    request.set_local_path(folder_ + "/from/tiny");
    return client_->ImportBaseModel(request).status();
  }
  // The base once it is not IMPORTING any more; polls, because another process works.
  v1::BaseModel AwaitImport() {
    for (int i = 0; i < 3000; ++i) {
      const auto base_model = client_->GetBaseModel(kBase);
      CHECK(base_model.ok()) << base_model.status();
      if (base_model->state() != v1::BaseModel::IMPORTING) return *base_model;
      absl::SleepFor(absl::Milliseconds(10));
    }
    LOG(FATAL) << *ReadFile(LogFile());
  }
  std::vector<std::string> FilesIn(const std::string& part) {
    std::vector<std::string> files;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(folder_ + "/data" + part)) {
      if (entry.is_regular_file()) files.push_back(entry.path().string());
    }
    return files;
  }
  static std::string Pieces(int64_t size) {
    std::string data(static_cast<size_t>(size), '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * i >> 7);
    return data;
  }

  std::string PortFile() const { return folder_ + "/port"; }
  std::string RoomFile() const { return folder_ + "/room"; }
  // Of the store started last.
  std::string LogFile() const { return folder_ + "/log"; }

  const std::string folder_ = ::testing::TempDir() + "/store_process";
  std::string token_;
  pid_t pid_ = -1;
  std::unique_ptr<StoreClient> client_;
};

// ---- Starting and ending ----

TEST_F(StoreProcessTest, AStoreAnswersAndEndsInGoodOrder) {
  Start();
  EXPECT_TRUE(UploadBytes(*client_, "acme", "a", "bytes").ok());
  EXPECT_EQ(*Read("bytes"), "bytes");
  kill(pid_, SIGTERM);
  EXPECT_EQ(Wait(), kExitStopped) << *ReadFile(LogFile());
}

TEST_F(StoreProcessTest, AFolderHeldByAnotherStoreIsRefusedAndItsOwnerGoesOn) {
  Start();
  const pid_t first = std::exchange(pid_, -1);
  Launch();
  EXPECT_EQ(Wait(), kExitCannotStart);
  EXPECT_THAT(*ReadFile(LogFile()),
              HasSubstr("database locked by another process: " + folder_ + "/data/store.db"));
  pid_ = first;
  EXPECT_TRUE(UploadBytes(*client_, "acme", "a", "bytes").ok());
}

TEST_F(StoreProcessTest, ABoundOfNothingIsRefusedByItsName) {
  struct Bound {
    std::string flag, value, want;
  };
  const Bound bounds[] = {
      {"--blob_bytes_max", "0", "want at least 1"},
      {"--uploads_open_max", "0", "want at least 1"},
      {"--dataset_bytes_max", "0", "want at least 1"},
      {"--reports_kept_max", "0", "want at least 1"},
      {"--reports_at_once_max", "0", "want at least 1"},
      {"--reports_waiting_max", "0", "want at least 1"},
      {"--imports_waiting_max", "0", "want at least 1"},
      {"--import_attempts_max", "0", "want at least 1"},
      {"--whole_reads_at_once_max", "0", "want at least 1"},
      {"--upload_lifetime", "999ms", "want at least 1s"},
      {"--collection_interval", "999ms", "want at least 1s"},
  };
  // A store that takes the bound ends nevertheless, with another code.
  ASSERT_TRUE(WriteFileAtomically(folder_ + "/data", "no folder").ok());
  for (const Bound& bound : bounds) {
    Launch({}, {absl::StrCat(bound.flag, "=", bound.value)});
    EXPECT_EQ(Wait(), kExitUsage) << bound.flag;
    EXPECT_THAT(*ReadFile(LogFile()),
                HasSubstr(absl::StrCat(bound.flag, " is ", bound.value, ", ", bound.want)));
  }
}

// ---- kill -9 ----

TEST_F(StoreProcessTest, AnUploadGoesOnAfterAKillWhereItWasCommitted) {
  Start();
  const std::string data = Pieces(20 * kMiB + 5);
  const v1::Upload upload = CreateUpload(data);
  ASSERT_TRUE(Write(upload, data, 13 * kMiB).ok());
  Kill();
  Start();
  const v1::Upload found = CreateUpload(data);
  EXPECT_EQ(found.name(), upload.name());
  EXPECT_EQ(found.committed_size_bytes(), 13 * kMiB);
  const auto done = Write(found, data, static_cast<int64_t>(data.size()));
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_TRUE(done->done());
  EXPECT_EQ(*Read(data), data);
}

TEST_F(StoreProcessTest, AnImportIsFinishedThoughTheStoreIsKilledAgainAndAgain) {
  Start();
  ASSERT_TRUE(Import().ok());
  for (int i = 0; i < 5; ++i) {
    Kill();
    Start();
  }
  const v1::BaseModel base = AwaitImport();
  EXPECT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
  EXPECT_TRUE(FilesIn("/imports").empty());
}

// ---- A full disk ----

TEST_F(StoreProcessTest, AnUploadToAFullDiskIsRefusedKeepsWhatFitAndGoesOnOnceThereIsRoom) {
  StartOnFullDisk("/blobs", 10 * kMiB + 100);
  const std::string data = Pieces(20 * kMiB);
  const v1::Upload upload = CreateUpload(data);
  const auto full = Write(upload, data, 20 * kMiB);
  ASSERT_TRUE(absl::IsResourceExhausted(full.status())) << full.status();
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("No space left on device"));
  const auto kept = client_->GetUpload(upload.name());
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->committed_size_bytes(), 10 * kMiB);
  ASSERT_TRUE(WriteFileAtomically(RoomFile(), "").ok());
  const auto done = Write(*kept, data, 20 * kMiB);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(*Read(data), data);
}

TEST_F(StoreProcessTest, AnImportToAFullDiskFailsClearlyLeavesNothingAndMayBeRepeated) {
  StartOnFullDisk("/imports", 20'000);
  ASSERT_TRUE(Import().ok());
  const v1::BaseModel failed = AwaitImport();
  ASSERT_EQ(failed.state(), v1::BaseModel::FAILED);
  EXPECT_EQ(failed.failure().code(), "DISK_FULL");
  EXPECT_EQ(failed.failure().fault(), v1::Failure::PLATFORM);
  EXPECT_THAT(failed.failure().message(), HasSubstr("No space left on device"));
  EXPECT_TRUE(FilesIn("/imports").empty());
  EXPECT_TRUE(FilesIn("/blobs").empty());
  ASSERT_TRUE(WriteFileAtomically(RoomFile(), "").ok());
  ASSERT_TRUE(Import().ok());
  const v1::BaseModel base = AwaitImport();
  EXPECT_EQ(base.state(), v1::BaseModel::READY) << base.failure().message();
}

TEST_F(StoreProcessTest, ADiskFullUnderTheDatabaseRefusesClearlyAndLosesNothing) {
  Start();
  ASSERT_TRUE(UploadBytes(*client_, "acme", "a", "before").ok());
  Kill();
  StartOnFullDisk("", 300'000);
  // Small things are taken until the disk is full, whichever file meets it first.
  std::vector<std::string> taken;
  absl::Status full;
  for (int i = 0; i < 1000 && full.ok(); ++i) {
    const std::string data = absl::StrCat("blob ", i);
    full = UploadBytes(*client_, "acme", "a", data).status();
    if (full.ok()) taken.push_back(data);
  }
  ASSERT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(*Read("before"), "before") << "reading goes on";
  ASSERT_FALSE(taken.empty());

  ASSERT_TRUE(WriteFileAtomically(RoomFile(), "").ok());
  EXPECT_TRUE(UploadBytes(*client_, "acme", "a", "after").ok()) << "room came back";
  Kill();
  Start();
  for (const std::string& data : taken) EXPECT_EQ(*Read(data), data);
  EXPECT_EQ(*Read("after"), "after");
}

}  // namespace
}  // namespace deltaworks::services
