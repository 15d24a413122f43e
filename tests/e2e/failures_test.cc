// What goes wrong around a platform: ports and databases that somebody else holds, disks that are
// full, messages that lie about their size, uploads that are cut, requests without their fields.
// Each is answered with what was got and what is wanted, and nothing is lost.

#include <google/protobuf/descriptor.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/service_main.h"
#include "services/base/testing/raw_call.h"
#include "tests/e2e/await.h"
#include "tests/e2e/disk.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/rpc_by_name.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/workload.h"
#include "trainer/base/sha256.h"

namespace deltaworks::e2e {
namespace {

using services::kExitCannotStart;
using services::kExitUsage;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

// Restarts the service with a disk of so many free bytes.
void RestartOnDisk(Service& service, const Disk& disk, int64_t after_bytes,
                   const std::string& error = "ENOSPC") {
  service.SetEnvironment(disk.Environment(after_bytes, error));
  EXPECT_EQ(service.Terminate(), 0);
  service.Start();
}

int64_t HighWaterBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  return -1;
}

int64_t BytesOnDisk(const std::string& folder) {
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

// ---- What somebody else holds ----

constexpr char kInUse[] = "in use by another process";

TEST(StartTest, APortInUseIsNamedAndTheHolderGoesOn) {
  Platform platform({.inference = true});
  const std::string own_folder = absl::StrCat("--data_folder=", platform.folder(), "/twin-");
  // And what a second one needs of its own.
  const std::vector<std::pair<Service*, std::string>> services = {
      {&platform.store(), own_folder + "store"},
      {&platform.registry(), own_folder + "registry"},
      {&platform.scheduler(), own_folder + "scheduler"},
      {&platform.inference(), "--threads=1"},
      {&platform.worker(), "--device=cpu:1"}};
  for (const auto& [service, own] : services) {
    // The same command line again: the ports are known by now, and that of metrics comes first.
    const auto second = service->Launch();
    EXPECT_EQ(second->Wait(kPatience), std::optional<int>(kExitCannotStart)) << service->LogTail();
    EXPECT_THAT(service->LogTail(8),
                AllOf(HasSubstr(service->metrics_address()), HasSubstr(kInUse)));

    // All its own but for the port.
    Service other = service->Twin();
    other.AddArgument(own);
    other.AddArgument(absl::StrCat("--address=", service->address()));
    const auto third = other.Launch();
    EXPECT_EQ(third->Wait(kPatience), std::optional<int>(kExitCannotStart)) << other.LogTail();
    EXPECT_THAT(other.LogTail(8), AllOf(HasSubstr(service->address()), HasSubstr(kInUse)));
    EXPECT_TRUE(service->Runs());
  }
}

TEST(StartTest, ADatabaseThatAnotherProcessHoldsIsNamed) {
  Platform platform;
  for (Service* service : {&platform.store(), &platform.registry(), &platform.scheduler()}) {
    Service other = service->Twin();
    const auto second = other.Launch();
    EXPECT_EQ(second->Wait(kPatience), std::optional<int>(kExitCannotStart)) << other.LogTail();
    EXPECT_THAT(other.LogTail(8),
                AllOf(HasSubstr(".db"), AnyOf(HasSubstr("another process"), HasSubstr("locked"))));
    EXPECT_TRUE(service->Runs());
  }
  ImportBase(platform);
}

TEST(StartTest, ADeviceHasOneWorkerOnly) {
  Platform platform;
  Service other = platform.worker().Twin();
  const auto second = other.Launch();
  EXPECT_EQ(second->Wait(kPatience), std::optional<int>(kExitCannotStart)) << other.LogTail();
  EXPECT_THAT(other.LogTail(8), HasSubstr("cpu:0"));
  EXPECT_TRUE(platform.worker().Runs());
}

TEST(StartTest, ADeviceThatIsNotThereIsNamedByWhoWouldComputeOnIt) {
  Platform platform({.inference = true});
  for (Service* service : {&platform.inference(), &platform.worker()}) {
    for (const auto& [device, status] :
         {std::pair("cuda:99", kExitCannotStart), std::pair("tpu:0", kExitUsage)}) {
      Service other = service->Twin();
      other.AddArgument(absl::StrCat("--device=", device));
      other.AddArgument("--cuda_graphs");  // Both know it.
      const auto second = other.Launch();
      EXPECT_EQ(second->Wait(kPatience), std::optional<int>(status)) << other.LogTail();
      EXPECT_THAT(other.LogTail(8), HasSubstr(absl::StrCat("device is \\\"", device)));
    }
    EXPECT_TRUE(service->Runs());
  }
}

// ---- Full disks ----

TEST(FullDiskTest, AnImportOnAFullDiskFailsClearlyAndWorksOnceThereIsRoom) {
  Platform platform({.start_workers = false});
  const Disk disk(platform.folder() + "/store/imports");
  RestartOnDisk(platform.store(), disk, /*after_bytes=*/60'000);  // The base has more.
  const auto begun = StartImport(platform, {});
  ASSERT_TRUE(begun.ok()) << begun.status();
  const v1::BaseModel failed = AwaitImport(platform, begun->name());
  EXPECT_EQ(failed.state(), v1::BaseModel::FAILED);
  EXPECT_EQ(failed.failure().code(), "DISK_FULL") << failed.DebugString();
  EXPECT_EQ(failed.failure().fault(), v1::Failure::PLATFORM);

  disk.MakeRoom();
  ImportBase(platform, {.id = "again"});
  EXPECT_EQ(AddDataset(platform, "pairs", 20, 1).example_count(), 20);
}

// Fills the file system of `folder` but for so many bytes.
void FillDisk(const std::string& folder, int64_t left_bytes) {
  const auto free_bytes = static_cast<int64_t>(std::filesystem::space(folder).available);
  ASSERT_GT(free_bytes, left_bytes);
  std::ofstream(folder + "/filler") << std::string(free_bytes - left_bytes, 'x');
}

// The same with a real file system, which only the store sees.
TEST(FullDiskTest, AnImportOnAFullFileSystemFailsClearlyAndWorksOnceThereIsRoom) {
  Platform platform({.start_workers = false});
  const std::string disk = platform.folder() + "/store";
  const std::vector<std::string> on_own_disk = {
      "/usr/bin/unshare",
      "-Urm",
      "/bin/sh",
      "-c",
      "mount -t tmpfs -o size=8m tmpfs \"$0\" && exec \"$@\"",
      disk};
  ChildProcess::Command probe = {.program = on_own_disk[0],
                                 .arguments = {on_own_disk.begin() + 1, on_own_disk.end()},
                                 .log_path = platform.folder() + "/mount.log"};
  probe.arguments.push_back("/bin/true");
  if (ChildProcess(probe).Wait(kPatience) != std::optional<int>(0)) {
    GTEST_SKIP() << "no user namespaces here to mount in; the full disk by preload runs everywhere";
  }
  platform.store().SetWrapper(on_own_disk);
  EXPECT_EQ(platform.store().Terminate(), 0);
  platform.store().Start();
  const std::string seen = absl::StrCat("/proc/", platform.store().pid(), "/root", disk);
  FillDisk(seen, /*left_bytes=*/60'000);  // The base has more.
  const auto begun = StartImport(platform, {});
  ASSERT_TRUE(begun.ok()) << begun.status();
  const v1::BaseModel failed = AwaitImport(platform, begun->name());
  EXPECT_EQ(failed.state(), v1::BaseModel::FAILED);
  EXPECT_EQ(failed.failure().code(), "DISK_FULL") << failed.DebugString();

  std::filesystem::remove(seen + "/filler");
  ImportBase(platform, {.id = "again"});
  EXPECT_EQ(AddDataset(platform, "pairs", 20, 1).example_count(), 20);
}

TEST(FullDiskTest, AnImportThatCannotEvenBeMarkedFailedIsDoneOnceThereIsRoom) {
  Platform platform({.start_workers = false});
  const Disk disk(platform.folder() + "/store");
  RestartOnDisk(platform.store(), disk, /*after_bytes=*/60'000);
  const auto begun = StartImport(platform, {});
  ASSERT_TRUE(begun.ok()) << begun.status();
  ASSERT_TRUE(Await(kPatience, [&] {
    return absl::StrContains(platform.store().Log(), "the state of an import cannot be stored");
  })) << platform.store().LogTail();
  v1::CreateUploadRequest upload;
  upload.set_parent(Parent());
  upload.set_digest(Sha256Digest("no room"));
  upload.set_size_bytes(7);
  const absl::Status refused = platform.store_of().CreateUpload(upload).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("full"));
  disk.MakeRoom();
  const v1::BaseModel base = AwaitImport(platform, begun->name());
  EXPECT_EQ(base.state(), v1::BaseModel::READY) << base.DebugString();
}

TEST(FullDiskTest, ACheckpointThatTheDiskHasNoRoomForIsTakenLater) {
  Platform platform;
  ImportBase(platform);
  AddDataset(platform, "pairs", 200, 1);
  v1::CreateJobRequest request = JobRequest("undisturbed", 100);
  request.mutable_job()->mutable_train()->mutable_arguments()->set_gradient_accumulation_steps(4);
  request.mutable_job()->mutable_train()->mutable_arguments()->set_save_steps(10);
  const std::string digest = RunToSuccess(platform, request).status().result().adapter_digest();

  const Disk disk(platform.folder() + "/store");
  RestartOnDisk(platform.store(), disk, /*after_bytes=*/50'000);  // Less than one checkpoint.
  request.set_job_id("starved");
  request.mutable_job()->mutable_train()->set_adapter("tenants/acme/adapters/starved");
  const std::string name = Submit(platform, request).name();
  const auto failures = [&] {
    return Sample(Scrape(platform.worker().metrics_address()),
                  "deltaworks_worker_publish_failures_total");
  };
  ASSERT_TRUE(Await(kPatience, [&] { return failures() > 0; })) << Describe(GetJob(platform, name));
  EXPECT_FALSE(IsFinal(GetJob(platform, name).status().state()));
  disk.MakeRoom();
  const v1::Job job = AwaitEnd(platform, name);
  EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
  EXPECT_EQ(job.status().result().adapter_digest(), digest);
  EXPECT_EQ(job.status().attempt_count(), 1) << "a full disk costs no attempt";
}

TEST(FullDiskTest, AJobThatCannotBeWrittenIsRefusedAndAcceptedOnceThereIsRoom) {
  Platform platform({.start_workers = false});
  ImportBase(platform);
  AddDataset(platform, "pairs", 20, 1);
  const Disk disk(platform.folder() + "/scheduler");
  RestartOnDisk(platform.scheduler(), disk, /*after_bytes=*/200'000);
  services::Channel channel = platform.NewChannel(platform.scheduler(), platform.token(kAcme));
  const auto* method =
      v1::CreateJobRequest::descriptor()->file()->service(0)->FindMethodByName("CreateJob");
  // Until the disk is full; then the last one may be stored or not, so it is asked for again.
  std::vector<std::string> accepted;
  absl::Status refusal;
  v1::CreateJobRequest request;
  for (int i = 0; i < 1'000 && refusal.ok(); ++i) {
    request = JobRequest(absl::StrCat("job-", i), 2);
    request.set_request_id(absl::StrCat("request-", i));
    refusal = CallRpc(channel, *method, request).status;
    if (refusal.ok()) accepted.push_back("tenants/acme/jobs/" + request.job_id());
  }
  EXPECT_THAT(refusal.code(),
              AnyOf(absl::StatusCode::kResourceExhausted, absl::StatusCode::kUnavailable))
      << refusal;
  EXPECT_THAT(std::string(refusal.message()), AnyOf(HasSubstr("full"), HasSubstr("space")));
  EXPECT_TRUE(platform.scheduler().Runs()) << platform.scheduler().LogTail();

  disk.MakeRoom();
  // It looks again now and then.
  absl::Status status;
  EXPECT_TRUE(Await(kPatience, [&] {
    status = CallRpc(channel, *method, request).status;
    return status.ok();
  })) << status;
  accepted.push_back("tenants/acme/jobs/" + request.job_id());
  for (const std::string& name : accepted) GetJob(platform, name);
  platform.scheduler().KillAndStart();
  for (const std::string& name : accepted) GetJob(platform, name);
}

// The scheduler's database cannot be written for four leases; nothing but that stops.
class LostDatabaseTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LostDatabaseTest, RefusesChangesLeavesWorkAloneAndRecovers) {
  Platform platform;
  ImportBase(platform);
  AddDataset(platform, "pairs", 200, 1);
  v1::CreateJobRequest request = JobRequest("undisturbed", 400);
  request.mutable_job()->mutable_train()->mutable_arguments()->set_gradient_accumulation_steps(4);
  const std::string digest = RunToSuccess(platform, request).status().result().adapter_digest();

  const Disk disk(platform.folder() + "/scheduler");
  disk.MakeRoom();
  RestartOnDisk(platform.scheduler(), disk, /*after_bytes=*/0, GetParam());
  request.set_job_id("disturbed");
  request.mutable_job()->mutable_train()->set_adapter("tenants/acme/adapters/disturbed");
  const std::string name = Submit(platform, request).name();
  AwaitStep(platform, name, 1);

  disk.TakeRoom();
  v1::CreateJobRequest refused = JobRequest("refused", 2);
  refused.set_request_id("refused");
  services::Channel channel = platform.NewChannel(platform.scheduler(), platform.token(kAcme));
  const auto* method =
      v1::CreateJobRequest::descriptor()->file()->service(0)->FindMethodByName("CreateJob");
  const absl::Time until = absl::Now() + absl::Seconds(8);
  while (absl::Now() < until) {
    const absl::Status status = CallRpc(channel, *method, refused).status;
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("scheduler.db"));
    absl::SleepFor(absl::Milliseconds(500));
  }
  EXPECT_TRUE(platform.scheduler().Runs()) << platform.scheduler().LogTail();

  disk.MakeRoom();
  absl::Status status;
  EXPECT_TRUE(Await(kPatience, [&] {
    status = CallRpc(channel, *method, refused).status;
    return status.ok();
  })) << status;
  const v1::Job job = AwaitEnd(platform, name);
  EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
  EXPECT_EQ(job.status().attempt_count(), 1) << "it cost work";
  EXPECT_EQ(job.status().result().adapter_digest(), digest);
  EXPECT_EQ(AwaitEnd(platform, "tenants/acme/jobs/refused").status().state(), v1::SUCCEEDED);
}

INSTANTIATE_TEST_SUITE_P(GoneOrReadOnly, LostDatabaseTest, ::testing::Values("EIO", "EROFS"));

// ---- Messages ----

TEST(MessageTest, FourAnnouncedGigabytesAreCutOffByEveryService) {
  constexpr int64_t kEnhanceYourCalm = 0xb;  // RESOURCE_EXHAUSTED, to a gRPC client.
  Platform platform({.inference = true});
  const std::vector<std::pair<std::string, std::string>> paths = {
      {"store", "/deltaworks.v1.StoreService/CreateUpload"},
      {"registry", "/deltaworks.v1.RegistryService/GetVersion"},
      {"scheduler", "/deltaworks.v1.TrainingService/CreateJob"},
      {"inference", "/deltaworks.v1.InferenceService/Score"},
      {"worker", "/deltaworks.v1.WorkerService/Sync"}};
  for (const auto& [name, path] : paths) {
    Service& service = platform.Find(name);
    services::RawCall call(service.port(), path, platform.token(kAcme));
    const int64_t code = call.Pour(0xFFFFFFFF);
    // A worker serves no rpc, so it may also say so.
    if (name != "worker") {
      EXPECT_EQ(code, kEnhanceYourCalm) << name;
    }
    EXPECT_LT(HighWaterBytes(service.pid()), int64_t{1} << 30) << name;
    EXPECT_TRUE(service.Runs()) << name;
  }
  ImportBase(platform);  // They answer as before.
  AddDataset(platform, "pairs", 20, 1);
  RunToSuccess(platform, JobRequest("after", 2));
}

TEST(MessageTest, AnUploadOfFiveGigabytesThatIsCutTakesOnlyWhatCame) {
  constexpr int64_t kAnnounced = 5'000'000'000;
  constexpr int64_t kSent = 8 << 20;
  Platform platform({.start_workers = false});
  services::StoreClient& store = platform.store_of();
  v1::CreateUploadRequest request;
  request.set_parent(Parent());
  request.set_digest(Sha256Digest("five gigabytes that never come"));
  request.set_size_bytes(kAnnounced);
  const v1::Upload upload = Must(store.CreateUpload(request));
  EXPECT_FALSE(upload.done());
  int64_t sent = 0;
  const auto cut = store.WriteUpload(upload.name(), 0, [&](int64_t, std::string& piece) {
    if (sent == kSent) return absl::CancelledError("the cable was pulled");
    piece.assign(1 << 20, 'x');
    sent += 1 << 20;
    return absl::OkStatus();
  });
  EXPECT_FALSE(cut.ok());
  EXPECT_LT(BytesOnDisk(platform.folder() + "/store"), 2 * kSent);

  platform.store().KillAndStart();
  // What came may be continued; what is there is not a blob.
  const v1::Upload resumed = Must(store.CreateUpload(request));
  EXPECT_EQ(resumed.name(), upload.name());
  EXPECT_FALSE(resumed.done());
  EXPECT_LE(resumed.committed_size_bytes(), kSent);
  const auto gap = store.WriteUpload(upload.name(), resumed.committed_size_bytes() + 1,
                                     [](int64_t, std::string& piece) {
                                       piece = "late";
                                       return absl::OkStatus();
                                     });
  EXPECT_TRUE(absl::IsOutOfRange(gap.status())) << gap.status();
  v1::ReadBlobRequest read;
  read.set_parent(Parent());
  read.set_digest(request.digest());
  EXPECT_TRUE(
      absl::IsNotFound(store.ReadBlob(read, [](absl::string_view) { return absl::OkStatus(); })));
  AddDataset(platform, "pairs", 20, 1);
}

// ---- Requests ----

// Rpcs that change something: those with a request_id, and the three that need none.
bool Mutates(const google::protobuf::MethodDescriptor& method) {
  return method.input_type()->FindFieldByName("request_id") != nullptr || method.name() == "Sync" ||
         method.name() == "WriteUpload" || method.name() == "FindMissingBlobs";
}

// True if `message` begins with a field of the request, or a path into it.
bool NamesAField(const google::protobuf::MethodDescriptor& method, const std::string& message) {
  for (int i = 0; i < method.input_type()->field_count(); ++i) {
    const std::string& field = method.input_type()->field(i)->name();
    for (const char* next : {" ", ".", ":", "["}) {
      if (absl::StartsWith(message, field + next)) return true;
    }
  }
  return false;
}

TEST(RequestTest, AnEmptyRequestIsRefusedAndNamesTheFieldThatItLacks) {
  Platform platform({.inference = true, .start_workers = false});
  int tried = 0;
  for (const auto* service : AllServices()) {
    for (int i = 0; i < service->method_count(); ++i) {
      const auto& method = *service->method(i);
      // Readers too, but for those that need no field.
      if (method.name() == "ListWorkers" || method.name() == "ListQuotas") continue;
      const auto answer_to = [&](const std::string& token) {
        return CallRpc(platform.NewChannel(platform.Serving(service->name()), token), method,
                       *NewRequest(method));
      };
      RpcAnswer answer = answer_to(platform.token(kAcme));
      // Who calls is looked at before what is asked.
      if (absl::IsPermissionDenied(answer.status)) answer = answer_to(platform.token(kPlatform));
      SCOPED_TRACE(method.full_name());
      EXPECT_TRUE(absl::IsInvalidArgument(answer.status)) << answer.Text();
      EXPECT_TRUE(NamesAField(method, std::string(answer.status.message()))) << answer.Text();
      if (Mutates(method)) ++tried;
    }
  }
  EXPECT_GE(tried, 15);
}

}  // namespace
}  // namespace deltaworks::e2e
