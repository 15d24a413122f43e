// What cannot be trained ends with a reason: a code, whose fault it was, the field or the path, and
// without harm to the neighbours.

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/worker/job_preparation.h"
#include "services/worker/store_publisher.h"
#include "services/worker/testing/engine_harness.h"
#include "services/worker/testing/faulty_backend.h"
#include "services/worker/testing/tiny_world.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

const AttemptKey kJ = KeyOf("j");

// Writes to files with this in their path find the disk full; empty: none do.
std::string& FullPart() {
  static std::string part;
  return part;
}

std::string AdapterOf(const v1::TrainTask& task) {
  EngineHarness alone;
  alone.engine().Start(kJ, task);
  alone.RunAll();
  return alone.results[kJ.job].adapter_digest;
}

// A worker whose device of f32 fails when `faults` say so; that of another number type is sound.
EngineHarness::NewBackend F32With(DeviceFaults& faults) {
  return [&faults](trainer::DType type) -> absl::StatusOr<std::unique_ptr<trainer::Backend>> {
    auto backend = trainer::NewCpuBackend({.compute_type = type, .threads = 1});
    if (!backend.ok() || type != trainer::DType::kF32) return backend;
    return std::make_unique<FaultyBackend>(*std::move(backend), faults);
  };
}

// Steps as large as the settings allow, each as if it were the first: nothing holds it.
v1::TrainTask WildTask() {
  v1::TrainTask task = TinyTask(7);
  v1::TrainingArguments& arguments = *task.mutable_spec()->mutable_arguments();
  arguments.set_learning_rate(10);
  arguments.set_adam_beta2(0);
  arguments.set_adam_epsilon(1e-38);
  arguments.set_max_grad_norm(0);
  arguments.set_max_steps(200);
  arguments.set_lr_scheduler_type(v1::TrainingArguments::CONSTANT);
  return task;
}

TEST(JobFailuresTest, ADivergingJobFailsAsTheUsersFaultAndItsNeighbourIsUnharmed) {
  EngineHarness worker;
  const AttemptKey wild = KeyOf("wild");
  worker.engine().Start(wild, WildTask());
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  ASSERT_TRUE(worker.failures.contains(wild.job));
  EXPECT_EQ(worker.failures[wild.job].code(), "DIVERGED");
  EXPECT_EQ(worker.failures[wild.job].fault(), v1::Failure::USER);
  EXPECT_THAT(worker.failures[wild.job].message(), HasSubstr("training diverged at step"));
  EXPECT_FALSE(worker.results.contains(wild.job));
  EXPECT_EQ(worker.results[kJ.job].adapter_digest, AdapterOf(TinyTask()));
}

// The first update divides 0 by 0: an epsilon that f32 rounds to 0, and gradients of A that are 0
// while B is.
TEST(JobFailuresTest, NoAdapterWithANaNLeavesTheWorkerEvenIfTheLastUpdateMadeIt) {
  v1::TrainTask task = TinyTask();
  task.mutable_spec()->mutable_arguments()->set_adam_epsilon(1e-60);
  task.mutable_spec()->mutable_arguments()->set_max_steps(1);
  for (const bool validates : {true, false}) {
    SCOPED_TRACE(validates ? "with validation" : "without validation");
    if (!validates) task.mutable_facts()->clear_validation_manifest_digest();
    EngineHarness worker;
    worker.engine().Start(kJ, task);
    worker.RunAll();
    EXPECT_FALSE(worker.results.contains(kJ.job));
    EXPECT_EQ(worker.failures[kJ.job].code(), "DIVERGED");
    EXPECT_THAT(worker.failures[kJ.job].message(),
                HasSubstr(validates ? "eval_loss is" : "a weight of the adapter is"));
  }
}

TEST(JobFailuresTest, AJobThatDoesNotFitAloneIsTheUsersFaultAndShowsThePlan) {
  EngineHarness worker(/*threads=*/1, /*memory_bytes=*/1 << 20);
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  const v1::Failure& failure = worker.failures[kJ.job];
  EXPECT_EQ(failure.code(), "OUT_OF_MEMORY");
  EXPECT_EQ(failure.fault(), v1::Failure::USER);
  EXPECT_THAT(failure.message(), HasSubstr("activations"));
}

TEST(JobFailuresTest, AJobThatDoesNotFitBesideAnotherIsThePlatformsFault) {
  EngineHarness small(/*threads=*/1, /*memory_bytes=*/1);
  small.engine().Start(kJ, TinyTask());
  small.RunAll();
  const std::vector<std::string> words =
      absl::StrSplit(small.failures[kJ.job].message(), absl::ByAnyChar(" ;"));
  int64_t needed = 0;  // "memory needed is N bytes".
  ASSERT_TRUE(absl::SimpleAtoi(words.at(3), &needed)) << small.failures[kJ.job].message();

  EngineHarness worker(/*threads=*/1, /*memory_bytes=*/needed);
  const AttemptKey second = KeyOf("second");
  worker.engine().Start(kJ, TinyTask());
  worker.engine().Start(second, TinyTask());
  worker.RunAll();
  EXPECT_TRUE(worker.results.contains(kJ.job)) << worker.failures[kJ.job].message();
  EXPECT_EQ(worker.failures[second.job].code(), "OUT_OF_MEMORY");
  EXPECT_EQ(worker.failures[second.job].fault(), v1::Failure::PLATFORM);
}

// The least memory, within a kilobyte, with which `second` may join a tiny job.
int64_t LeastMemoryBeside(const v1::TrainTask& second) {
  int64_t refused = 0, enough = int64_t{1} << 30;
  while (enough - refused > 1024) {
    const int64_t memory = (refused + enough) / 2;
    EngineHarness worker(/*threads=*/1, memory);
    worker.engine().Start(kJ, TinyTask());
    worker.engine().Start(KeyOf("second"), second);
    worker.RunOnce();
    (worker.failures.empty() ? enough : refused) = memory;
  }
  return enough;
}

TEST(JobFailuresTest, WhatTwoNeedTogetherCountsThePassThatTheyShare) {
  v1::TrainTask longer = TinyTask(7), wider = TinyTask(7);
  longer.mutable_spec()->set_micro_batch_tokens(512);
  wider.mutable_spec()->mutable_lora()->set_rank(5);
  const int64_t alike = LeastMemoryBeside(TinyTask(7));
  // 256 more rows: at least the residual stream of the two layers, in f32.
  EXPECT_GT(LeastMemoryBeside(longer), alike + 256 * 2 * 2 * 24 * 4);
  EXPECT_GT(LeastMemoryBeside(wider), alike);
}

// Parked while it joins, so that what fails is the pass.
void StartWithoutRoomForAPass(EngineHarness& worker, const AttemptKey& key, DeviceFaults& faults) {
  worker.engine().Start(key, TinyTask());
  worker.engine().Park(key);
  worker.RunOnce();
  ASSERT_EQ(worker.failures.count(key.job), 0u) << worker.failures[key.job].message();
  faults.at_allocate = absl::ResourceExhaustedError("no room on the device");
  worker.engine().Resume(key);
  worker.RunOnce();
  faults.at_allocate = absl::OkStatus();
}

TEST(JobFailuresTest, WithoutRoomForAPassTheLastToComeGoesAndTheOthersTryAgain) {
  DeviceFaults faults;
  EngineHarness worker(F32With(faults));
  const AttemptKey last = KeyOf("last");
  worker.engine().Start(kJ, TinyTask());
  for (int i = 0; i < 4; ++i) worker.RunOnce();
  StartWithoutRoomForAPass(worker, last, faults);
  EXPECT_EQ(worker.failures[last.job].code(), "OUT_OF_MEMORY");
  EXPECT_EQ(worker.failures[last.job].fault(), v1::Failure::PLATFORM);
  EXPECT_THAT(worker.failures[last.job].message(), HasSubstr("no room on the device; plan: "));
  worker.RunAll();
  EXPECT_EQ(worker.results[kJ.job].adapter_digest, AdapterOf(TinyTask()));
  EXPECT_EQ(faults.backends_made, 1);
}

// The one that trains came last, and its step of the same pass is done and told.
TEST(JobFailuresTest, AnEvaluationWithoutRoomCostsNoRunThatTrained) {
  DeviceFaults faults;
  EngineHarness worker(F32With(faults));
  const AttemptKey evaluates = KeyOf("evaluates");
  v1::TrainTask trains = TinyTask();
  trains.mutable_facts()->clear_validation_manifest_digest();
  trains.mutable_spec()->mutable_arguments()->set_per_device_train_batch_size(1);
  trains.mutable_spec()->mutable_arguments()->set_gradient_accumulation_steps(1);
  worker.engine().Start(evaluates, TinyTask());
  worker.engine().Park(evaluates);
  worker.engine().Start(kJ, trains);
  worker.RunOnce();
  const int64_t steps = worker.steps[kJ.job];
  faults.at_allocate = absl::ResourceExhaustedError("no room on the device");
  worker.engine().Resume(evaluates);
  worker.RunOnce();
  faults.at_allocate = absl::OkStatus();
  EXPECT_EQ(worker.failures[evaluates.job].code(), "OUT_OF_MEMORY");
  EXPECT_EQ(worker.failures.count(kJ.job), 0u) << worker.failures[kJ.job].message();
  EXPECT_EQ(worker.steps[kJ.job], steps + 1);
  worker.RunAll();
  EXPECT_EQ(worker.results[kJ.job].adapter_digest, AdapterOf(trains));
}

TEST(JobFailuresTest, WithoutRoomForItsPassAloneAJobFailsAsTheUsersFault) {
  DeviceFaults faults;
  EngineHarness worker(F32With(faults));
  StartWithoutRoomForAPass(worker, kJ, faults);
  EXPECT_EQ(worker.failures[kJ.job].code(), "OUT_OF_MEMORY");
  EXPECT_EQ(worker.failures[kJ.job].fault(), v1::Failure::USER);
}

TEST(JobFailuresTest, ADeviceFaultFailsEveryJobOnItAlsoTheFinishedAndTheNextHasANewBackend) {
  DeviceFaults faults;
  EngineHarness worker(F32With(faults));
  const AttemptKey finished = KeyOf("finished"), beside = KeyOf("beside"), bf16 = KeyOf("bf16");
  worker.engine().Start(finished, TinyTask());
  worker.RunAll();
  ASSERT_TRUE(worker.results.contains(finished.job));
  v1::TrainTask other_type = TinyTask();
  other_type.mutable_spec()->set_compute_type(v1::BF16);
  other_type.mutable_facts()->set_base_form(v1::BF16);
  other_type.mutable_facts()->set_base_manifest_digest(TheWorld().bf16_base_digest);
  worker.engine().Start(kJ, TinyTask());
  worker.engine().Start(bf16, other_type);
  v1::TrainTask other_base = TinyTask();  // A pass of its own, on the same device.
  other_base.mutable_facts()->set_base_manifest_digest(TheWorld().other_base_digest);
  worker.engine().Start(beside, other_base);
  for (int i = 0; i < 3; ++i) worker.RunOnce();
  ASSERT_TRUE(worker.failures.empty()) << worker.failures.begin()->second.message();

  faults.at_synchronize = absl::InternalError("the device is broken");
  worker.RunOnce();
  EXPECT_EQ(worker.failures.size(), 3u);
  for (const AttemptKey& key : {finished, kJ, beside}) {
    EXPECT_EQ(worker.failures[key.job].code(), "WORKER_ERROR") << key.job;
    EXPECT_EQ(worker.failures[key.job].fault(), v1::Failure::PLATFORM) << key.job;
    EXPECT_EQ(worker.failures[key.job].message(), "the device is broken") << key.job;
  }
  worker.engine().Start(KeyOf("j", 2), TinyTask());
  worker.RunAll();
  EXPECT_TRUE(worker.results.contains(bf16.job));
  EXPECT_EQ(worker.results[kJ.job].adapter_digest, AdapterOf(TinyTask()));
  EXPECT_EQ(faults.backends_made, 2);
}

TEST(JobFailuresTest, ADeviceFaultWhileAResultIsTriedFailsItAndIsNotTriedForEver) {
  DeviceFaults faults;
  EngineHarness worker(F32With(faults));
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  ASSERT_TRUE(worker.results.contains(kJ.job)) << worker.failures[kJ.job].message();
  const Artifact& artifact = *worker.results[kJ.job].artifact;
  const auto verify = [&] {
    worker.engine().Verify(kJ, artifact.Find(trainer::kAdapterModelFile)->bytes,
                           artifact.Find(trainer::kAdapterConfigFile)->bytes);
  };
  faults.at_allocate = absl::ResourceExhaustedError("no room");
  verify();
  ASSERT_EQ(worker.verified.size(), 1u);
  EXPECT_TRUE(absl::IsResourceExhausted(worker.verified[0])) << worker.verified[0];
  EXPECT_TRUE(worker.failures.empty());
  faults.at_allocate = absl::OkStatus();
  faults.at_synchronize = absl::InternalError("the device is broken");
  verify();
  EXPECT_EQ(worker.verified.size(), 1u);
  EXPECT_EQ(worker.failures[kJ.job].code(), "WORKER_ERROR");
  EXPECT_EQ(worker.failures[kJ.job].fault(), v1::Failure::PLATFORM);
}

TEST(JobFailuresTest, ABadDatasetOrTargetIsTheUsersFaultAndNamesTheField) {
  EngineHarness worker;
  v1::TrainTask bad_data = TinyTask();
  bad_data.mutable_spec()->mutable_text()->set_max_length(3);
  worker.engine().Start(kJ, bad_data);
  const AttemptKey other = KeyOf("other");
  v1::TrainTask bad_target = TinyTask();
  bad_target.mutable_spec()->mutable_lora()->add_target_modules("no_such_proj");
  worker.engine().Start(other, bad_target);
  worker.RunAll();
  EXPECT_EQ(worker.failures[kJ.job].code(), "DATASET_INVALID");
  EXPECT_EQ(worker.failures[kJ.job].field(), "train.dataset");
  EXPECT_EQ(worker.failures[kJ.job].fault(), v1::Failure::USER);
  EXPECT_EQ(worker.failures[other.job].code(), "INVALID_SPEC");
  EXPECT_THAT(worker.failures[other.job].message(), HasSubstr("no_such_proj"));
}

TEST(JobFailuresTest, AMissingBaseIsThePlatformsFault) {
  EngineHarness worker;
  v1::TrainTask task = TinyTask();
  task.mutable_facts()->set_base_manifest_digest("sha256:" + std::string(64, '0'));
  worker.engine().Start(kJ, task);
  worker.RunAll();
  EXPECT_EQ(worker.failures[kJ.job].code(), "WORKER_ERROR");
  EXPECT_EQ(worker.failures[kJ.job].fault(), v1::Failure::PLATFORM);
}

TEST(JobFailuresTest, AFullLocalDiskIsThePlatformsFaultNamesThePathAndPassesWithIt) {
  TinyWorld& world = TheWorld();
  const std::string folder = world.folder + "/full";
  BaseCache bases(folder, world.store, world.registry);
  FullPart() = "/full/bases/";
  EngineHarness worker(/*threads=*/1, /*memory_bytes=*/int64_t{1} << 34, bases);
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  FullPart().clear();
  EXPECT_EQ(worker.failures[kJ.job].code(), "DISK_FULL");
  EXPECT_EQ(worker.failures[kJ.job].fault(), v1::Failure::PLATFORM);
  EXPECT_THAT(worker.failures[kJ.job].message(), HasSubstr(folder + "/bases/"));

  worker.engine().Start(KeyOf("j", 2), TinyTask());
  worker.RunAll();
  EXPECT_TRUE(worker.results.contains(kJ.job)) << worker.failures[kJ.job].message();
}

TEST(JobFailuresTest, AFullLocalDiskIsWaitedForWhileTheJobIsWanted) {
  TinyWorld& world = TheWorld();
  BaseCache bases(world.folder + "/room", world.store, world.registry);
  FullPart() = "/room/bases/";
  int pauses = 0;
  bool wanted = true;
  RetryPolicy full_disk;
  full_disk.sleep = [&](absl::Duration) { wanted = ++pauses < 3; };
  const auto prepare = [&] {
    return PrepareJob(kJ.job, TinyTask(), bases, world.store, [&] { return !wanted; },
                      {.meet = nullptr, .full_disk = full_disk});
  };
  const Preparation given_up = prepare();
  EXPECT_EQ(given_up.job, nullptr);
  EXPECT_EQ(pauses, 3);

  wanted = true;
  full_disk.sleep = [](absl::Duration) { FullPart().clear(); };
  const Preparation prepared = prepare();
  EXPECT_NE(prepared.job, nullptr) << prepared.failure.message();
}

TEST(JobFailuresTest, ABaseThatWasDamagedInTheCacheIsFetchedAgainAndGivesTheSameAdapter) {
  TinyWorld& world = TheWorld();
  const std::string want = AdapterOf(TinyTask());
  const std::string hex = world.base_digest.substr(std::string("sha256:").size());
  const std::string weights = world.folder + "/cache/bases/" + hex + "/model.safetensors";
  ASSERT_EQ(chmod(weights.c_str(), 0600), 0);
  {
    std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('X');
    ASSERT_TRUE(file.good());
  }
  const int64_t reads = world.store.CallCount("ReadBlob");
  BaseCache bases(world.folder + "/cache", world.store, world.registry);  // Of a new process.
  EngineHarness worker(/*threads=*/1, /*memory_bytes=*/int64_t{1} << 34, bases);
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  EXPECT_EQ(worker.results[kJ.job].adapter_digest, want) << worker.failures[kJ.job].message();
  EXPECT_GT(world.store.CallCount("ReadBlob"), reads);
}

TEST(JobFailuresTest, AStoreThatIsAwayIsNotWaitedForOnceTheJobIsStopped) {
  TinyWorld& world = TheWorld();
  world.store.Fail("ReadBlob", absl::UnavailableError("away"), 1'000'000);
  BaseCache bases(world.folder + "/away", world.store, world.registry);
  const int64_t calls = world.store.CallCount("ReadBlob");
  int asked = 0;
  const Preparation preparation =
      PrepareJob(kJ.job, TinyTask(), bases, world.store, [&asked] { return ++asked > 3; });
  world.store.Fail("ReadBlob", absl::OkStatus(), 0);
  EXPECT_EQ(preparation.job, nullptr);
  EXPECT_EQ(preparation.failure.fault(), v1::Failure::PLATFORM);
  // Half a minute of retries would be some twenty.
  EXPECT_LE(world.store.CallCount("ReadBlob") - calls, 5);
}

TEST(JobFailuresTest, AJobCancelledWhileItWaitsForItsTurnIsNotPrepared) {
  TinyWorld& world = TheWorld();
  AdapterOf(TinyTask());  // With its base in the cache only the data would be asked for.
  BaseCache empty(world.folder + "/cancelled", world.store, world.registry);
  for (BaseCache* bases : {world.bases.get(), &empty}) {
    const int64_t calls = world.store.CallCount("ReadBlob");
    Preparation preparation;
    {
      absl::Notification done;
      PreparerThread preparer(*bases, world.store, /*gang_listener=*/nullptr);
      const auto cancellation = std::make_shared<Cancellation>();
      cancellation->Cancel();
      preparer.Prepare(kJ.job, TinyTask(), cancellation, [&](Preparation prepared) {
        preparation = std::move(prepared);
        done.Notify();
      });
      done.WaitForNotification();
    }  // Its thread has ended, which TSan sees; it does not know Debian's absl::Notification.
    EXPECT_EQ(preparation.job, nullptr);
    EXPECT_THAT(preparation.failure.message(), HasSubstr("no longer wanted"));
    EXPECT_EQ(world.store.CallCount("ReadBlob"), calls);
  }
}

TEST(JobFailuresTest, AWorkerThatStopsNeitherBringsToTheStoreNorReadsBack) {
  TinyWorld& world = TheWorld();
  EngineHarness worker;
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  const Artifact& artifact = *worker.results[kJ.job].artifact;
  ASSERT_TRUE(PublishArtifact(world.store, kJ.job, artifact).ok());
  const TransferOptions cancelled = CancelledBy([] { return true; });
  const absl::Status read = ReadBackAdapter(world.store, kJ.job, artifact, cancelled).status();
  EXPECT_TRUE(absl::IsCancelled(read)) << read;
  const absl::Status published = PublishArtifact(world.store, kJ.job, artifact, cancelled);
  EXPECT_TRUE(absl::IsCancelled(published)) << published;
}

}  // namespace
}  // namespace deltaworks::services

// Instead of the C library's, for everything in this program.
extern "C" ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  const std::string& full = deltaworks::services::FullPart();
  char path[4096] = {};
  const std::string link = absl::StrCat("/proc/self/fd/", fd);
  if (!full.empty() && readlink(link.c_str(), path, sizeof(path) - 1) > 0 &&
      absl::StrContains(path, full)) {
    errno = ENOSPC;
    return -1;
  }
  return syscall(SYS_pwrite64, fd, data, size, offset);
}
