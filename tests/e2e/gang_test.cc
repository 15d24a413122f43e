// A job that several workers train as one gang: the same bytes each time, whatever happens to one
// of them, and at a cold start the store sends the base once.

#include <signal.h>

#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/e2e/link.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

constexpr int64_t kSteps = 300;

v1::CreateJobRequest GangJob(const std::string& id, int size) {
  v1::CreateJobRequest request = JobRequest(id, kSteps);
  request.mutable_job()->mutable_placement()->set_gang_size(size);
  return request;
}

std::vector<std::string> CpuDevices(int count) {
  std::vector<std::string> devices;
  for (int i = 0; i < count; ++i) devices.push_back(absl::StrCat("cpu:", i));
  return devices;
}

std::string DigestOf(const v1::Job& job) { return job.status().result().adapter_digest(); }

class GangTest : public ::testing::Test {
 protected:
  GangTest() {
    ImportBase(platform_);
    AddDataset(platform_, "pairs", 100, 1);
    undisturbed_ = DigestOf(RunToSuccess(platform_, GangJob("undisturbed", 2)));
  }

  // Ends as the undisturbed one did.
  v1::Job ExpectSameBytes(const std::string& name) {
    const v1::Job job = AwaitEnd(platform_, name);
    EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
    EXPECT_EQ(DigestOf(job), undisturbed_) << Describe(job);
    return job;
  }

  Platform platform_{{.devices = CpuDevices(2)}};
  std::string undisturbed_;
};

TEST_F(GangTest, GivesTheSameBytesAgainAndOthersThanOneWorker) {
  const v1::Job job = ExpectSameBytes(Submit(platform_, GangJob("again", 2)).name());
  EXPECT_EQ(job.status().attempts(0).gang_size(), 2);
  EXPECT_EQ(job.status().attempts_size(), 1) << Describe(job);
  EXPECT_TRUE(job.status().exact());
  // Every step is reported once, by rank 0.
  EXPECT_EQ(HistoryOf(platform_, job.name()).metrics.size(), static_cast<size_t>(kSteps));
  EXPECT_NE(DigestOf(RunToSuccess(platform_, GangJob("alone", 1))), undisturbed_);
}

TEST_F(GangTest, GoesOnAfterEachOfItsWorkersWasKilled) {
  const std::string name = Submit(platform_, GangJob("killed", 2)).name();
  AwaitStep(platform_, name, 5);
  platform_.worker(0).KillAndStart();
  AwaitJob(platform_, name, [](const v1::Job& job) {
    return job.status().attempts_size() == 2 && job.status().progress().step() >= 10;
  });
  platform_.worker(1).KillAndStart();
  EXPECT_GE(ExpectSameBytes(name).status().attempts_size(), 3);
}

// Each step takes a batch of every worker, so an epoch has as many times fewer steps.
TEST_F(GangTest, CountsTheStepsOfAnEpochByTheBatchesOfAll) {
  v1::CreateJobRequest request = GangJob("epochs", 2);
  v1::TrainingArguments& arguments = *request.mutable_job()->mutable_train()->mutable_arguments();
  arguments.clear_max_steps();
  arguments.set_num_train_epochs(2);
  arguments.set_per_device_train_batch_size(10);
  v1::EstimateJobRequest estimate;
  estimate.set_parent(request.parent());
  *estimate.mutable_job() = request.job();
  EXPECT_EQ(
      Must(platform_.training_of().EstimateJob(estimate)).job().status().facts().total_steps(),
      2 * 100 / (2 * 10));
  const v1::Job job = RunToSuccess(platform_, request);
  EXPECT_EQ(job.status().progress().total_steps(), 10);
  EXPECT_EQ(job.status().result().step(), 10);
}

// The other one waits for it in the middle of a step, and must not stay there.
TEST_F(GangTest, GoesOnAfterOneOfItsWorkersWasSilent) {
  const std::string name = Submit(platform_, GangJob("silent", 2)).name();
  AwaitStep(platform_, name, 5);
  platform_.worker(1).Signal(SIGSTOP);
  AwaitJob(platform_, name, [](const v1::Job& job) { return job.status().state() == v1::QUEUED; });
  platform_.worker(1).Signal(SIGCONT);
  EXPECT_EQ(ExpectSameBytes(name).status().attempts_size(), 2);
}

TEST_F(GangTest, IsPausedAndResumed) {
  const std::string name = Submit(platform_, GangJob("paused", 2)).name();
  AwaitStep(platform_, name, 5);
  v1::PauseJobRequest pause;
  pause.set_name(name);
  Must(platform_.training_of().PauseJob(pause));
  const v1::Job paused = AwaitJob(
      platform_, name, [](const v1::Job& job) { return job.status().state() == v1::PAUSED; });
  EXPECT_GE(paused.status().checkpoint().step(), 5);
  v1::ResumeJobRequest resume;
  resume.set_name(name);
  Must(platform_.training_of().ResumeJob(resume));
  EXPECT_EQ(ExpectSameBytes(name).status().attempts_size(), 2);
}

TEST_F(GangTest, IsHandedBackWhenOneOfItsWorkersIsToldToStop) {
  const std::string name = Submit(platform_, GangJob("drained", 2)).name();
  AwaitStep(platform_, name, 5);
  platform_.worker(1).Terminate();
  platform_.worker(1).Start();
  const v1::Job job = ExpectSameBytes(name);
  ASSERT_EQ(job.status().attempts_size(), 2) << Describe(job);
  EXPECT_GE(job.status().attempts(1).start_step(), 5) << "the step at which all left was lost";
}

TEST_F(GangTest, SurvivesASchedulerThatIsAwayForLongerThanItsLeases) {
  const std::string name = Submit(platform_, GangJob("parked", 2)).name();
  AwaitStep(platform_, name, 5);
  platform_.scheduler().Kill();
  absl::SleepFor(absl::Seconds(4));
  platform_.scheduler().Start();
  ExpectSameBytes(name);
}

// Four nodes without a base of 120 MB.
class ColdGangTest : public ::testing::Test {
 protected:
  ColdGangTest() : base_(ImportBase(platform_, {.model = LargerModel(1024)})) {
    AddDataset(platform_, "pairs", 100, 1);
  }
  static v1::CreateJobRequest ShortJob(const std::string& id) {
    v1::CreateJobRequest request = GangJob(id, 4);
    v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
    spec.mutable_arguments()->set_max_steps(2);
    spec.mutable_arguments()->set_per_device_train_batch_size(1);
    return request;
  }
  double FromGang(int worker) {
    return Sample(Scrape(platform_.worker(worker).metrics_address()),
                  "deltaworks_base_cache_gang_bytes_total");
  }
  double SentByStore() {
    return Sample(Scrape(platform_.store().metrics_address()), "deltaworks_store_read_bytes_total");
  }
  // Manifests, the dataset for each worker, the adapter that is read back.
  static constexpr double kOthersMax = 2 << 20;

  Platform platform_{{.devices = CpuDevices(4), .links = true, .own_nodes = true}};
  const v1::BaseModel base_;
};

TEST_F(ColdGangTest, TheStoreSendsTheBaseOnceAndEachNodeVerifiesIt) {
  const auto size = static_cast<double>(base_.size_bytes());
  const double before = SentByStore();
  const absl::Time begin = absl::Now();
  const v1::Job job = RunToSuccess(platform_, ShortJob("cold"));
  const double sent = SentByStore() - before;
  EXPECT_GE(sent, size);
  EXPECT_LT(sent, size + kOthersMax) << "the base has " << size << " bytes";
  double from_gang = 0;
  for (int i = 0; i < 4; ++i) from_gang += FromGang(i);
  EXPECT_EQ(from_gang, 3 * size);
  std::cout << "base " << size << " bytes; the store sent " << sent << ", members each other "
            << from_gang << ", the job took " << absl::Now() - begin << "\n";
  EXPECT_EQ(DigestOf(RunToSuccess(platform_, ShortJob("warm"))), DigestOf(job));
}

TEST_F(ColdGangTest, AMemberKilledMidwayCostsTheStoreNoSecondBase) {
  const auto size = static_cast<double>(base_.size_bytes());
  const double before = SentByStore();
  const std::string name = Submit(platform_, ShortJob("killed")).name();
  // Whoever fetches for all gets no further once something has arrived.
  while (FromGang(1) + FromGang(2) == 0) absl::SleepFor(absl::Milliseconds(1));
  std::vector<Link*> to_store;
  for (Link* link : platform_.LinksOf(platform_.store())) {
    if (absl::StartsWith(link->from(), "worker-")) to_store.push_back(link);
  }
  for (Link* link : to_store) link->Set(Link::State::kSilent);
  ASSERT_LT(FromGang(1), size) << "nothing was left to break";
  platform_.worker(3).KillAndStart();
  for (Link* link : to_store) link->Set(Link::State::kPasses);
  const v1::Job job = AwaitEnd(platform_, name);
  EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
  EXPECT_GE(job.status().attempts_size(), 2) << Describe(job);
  // What was on its way, and a chunk that was not whole, come again.
  const double sent = SentByStore() - before;
  EXPECT_LT(sent, 1.3 * size + kOthersMax);
  std::cout << "base " << size << " bytes; the store sent " << sent << "\n";
}

}  // namespace
}  // namespace deltaworks::e2e
