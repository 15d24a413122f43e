// kill -9 of every process, at random moments of short jobs: each job ends SUCCEEDED, with exactly
// one version, and the bytes of its adapter are those of a run that nobody disturbed.
//
// The moments come from a seed that is printed; DELTAWORKS_E2E_SEED repeats it,
// DELTAWORKS_E2E_KILLS changes how many there are for each process and number type. A moment is a
// time, so it does not fall on the same instruction again; but what it falls on must not matter.

#include <cstdlib>
#include <iostream>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

constexpr int kKills = 5;  // For each process and number type: 40 in all.
constexpr int64_t kSteps = 120;
constexpr int kJobsPerKillMax = 10;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  int64_t value = otherwise;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

v1::CreateJobRequest ShortJob(const std::string& id) {
  v1::CreateJobRequest request = JobRequest(id, kSteps);
  v1::TrainingArguments& arguments = *request.mutable_job()->mutable_train()->mutable_arguments();
  // Steps of some 10 ms, so that a job lasts a second or two.
  arguments.set_gradient_accumulation_steps(4);
  // Besides those by time, so that also the moments around a checkpoint are hit.
  arguments.set_save_steps(25);
  return request;
}

struct Undisturbed {
  std::string digest;
  absl::Duration duration;
};

class KillTest : public ::testing::TestWithParam<std::tuple<const char*, v1::NumberType>> {
 protected:
  // Run once in this process: its bytes are the same on every platform.
  static const Undisturbed& RunUndisturbed(Platform& platform, v1::NumberType form) {
    static auto* const runs = new std::map<v1::NumberType, Undisturbed>;
    Undisturbed& run = (*runs)[form];
    if (run.digest.empty()) {
      const absl::Time begin = absl::Now();
      run.digest =
          RunToSuccess(platform, ShortJob("undisturbed")).status().result().adapter_digest();
      run.duration = absl::Now() - begin;
    }
    return run;
  }

  void ExpectOneVersion(Platform& platform, const v1::Job& job, const std::string& digest) {
    EXPECT_EQ(job.status().result().adapter_digest(), digest) << Describe(job);
    EXPECT_TRUE(job.status().exact());
    const auto versions = VersionsOf(platform, job.train().adapter());
    ASSERT_EQ(versions.size(), 1u) << Describe(job);
    EXPECT_EQ(versions[0].state(), v1::AdapterVersion::READY);
    EXPECT_EQ(versions[0].adapter_digest(), digest);
    EXPECT_EQ(versions[0].name(), job.status().result().version());
  }

  // Every step's numbers are there once, whatever was lost on the way.
  void ExpectAllMetrics(Platform& platform, const v1::Job& job) {
    std::vector<int64_t> steps;
    for (const v1::MetricPoint& point : HistoryOf(platform, job.name()).metrics) {
      steps.push_back(point.step());
    }
    std::vector<int64_t> want(kSteps);
    std::iota(want.begin(), want.end(), 1);
    EXPECT_EQ(steps, want) << Describe(job);
  }
};

TEST_P(KillTest, LeavesEveryJobWithTheBytesOfAnUndisturbedRun) {
  const auto [victim, form] = GetParam();
  const int64_t kills = FromEnvironment("DELTAWORKS_E2E_KILLS", kKills);
  const int64_t seed = FromEnvironment("DELTAWORKS_E2E_SEED", absl::ToUnixMicros(absl::Now()));
  SCOPED_TRACE(absl::StrCat("DELTAWORKS_E2E_SEED=", seed));
  std::cout << "DELTAWORKS_E2E_SEED=" << seed << "\n";
  std::mt19937 random(static_cast<uint32_t>(seed));

  Platform platform;
  ImportBase(platform, {.form = form});
  AddDataset(platform, "pairs", 200, 1);
  const Undisturbed& undisturbed = RunUndisturbed(platform, form);

  int64_t killed = 0;
  int64_t attempts = 0;
  for (int number = 1; killed < kills && number <= kJobsPerKillMax * kills; ++number) {
    const std::string id = absl::StrCat("job-", number);
    const std::string name = Submit(platform, ShortJob(id)).name();
    // Again and again until the job has ended, also while it is validated or made a version.
    while (killed < kills && !IsFinal(GetJob(platform, name).status().state())) {
      const double moment = std::uniform_real_distribution<double>(0, 1)(random);
      absl::SleepFor(moment * undisturbed.duration);
      // A kill that finds the job ended shows nothing.
      if (IsFinal(GetJob(platform, name).status().state())) break;
      platform.Find(victim).KillAndStart();
      ++killed;
    }
    const v1::Job job = AwaitEnd(platform, name);
    attempts += job.status().attempt_count();
    ASSERT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
    ExpectOneVersion(platform, job, undisturbed.digest);
    ExpectAllMetrics(platform, job);
  }
  EXPECT_EQ(killed, kills);
  std::cout << killed << " kills of the " << victim << ", " << attempts
            << " attempts, an undisturbed job takes " << undisturbed.duration << "\n";
}

INSTANTIATE_TEST_SUITE_P(OfEveryProcess, KillTest,
                         ::testing::Combine(::testing::Values("scheduler", "worker", "store",
                                                              "registry"),
                                            ::testing::Values(v1::F32, v1::BF16)),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param), "_",
                                               v1::NumberType_Name(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace deltaworks::e2e
