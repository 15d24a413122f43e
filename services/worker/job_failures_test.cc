// What cannot be trained ends with a reason: a code, whose fault it was, the field or the path, and
// without harm to the neighbours.

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/worker/testing/engine_harness.h"
#include "services/worker/testing/tiny_world.h"

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
