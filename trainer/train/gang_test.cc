// A job trained by a gang of processes, over TCP: the same bytes each time for one size of the
// gang, the same training but for the order of sums for every size, and a member that is killed
// costs nothing but the steps since the last checkpoint.

#include <cmath>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/comm/testing/meeting.h"
#include "trainer/comm/testing/rank_process.h"
#include "trainer/train/training_case.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kExamplesOfAStep = 8;
constexpr int64_t kSteps = 4;
constexpr int64_t kCheckpointBytesMax = int64_t{1} << 20;

// 27 examples: the last step of an epoch has 3, fewer than four members.
TrainingJob GangJob(int members) {
  TrainingJob job = Jobs(1)[0];
  job.data = RandomData(7, /*train=*/27, /*validation=*/5);
  job.config.lora.rank = 5;
  job.config.lora.lora_dropout = 0.2;
  job.config.per_device_train_batch_size = kExamplesOfAStep / members;
  job.config.micro_batch_tokens = 60;
  job.config.max_steps = kSteps;
  job.config.eval_steps = 2;
  return job;
}

// What members tell the test, and leave to those that come after them.
struct Shared {
  double losses[kSteps + 1];
  double eval_losses[kSteps + 1];
  float first_moment[4096];  // m after the first step: a tenth of the gradient.
  int64_t elements;
  int64_t checkpoint_bytes;
  char checkpoint[kCheckpointBytesMax];
};

// Trains to the end, from the checkpoint if there is one, and returns the adapter's digest, or the
// error. Rank 0 checkpoints after two steps; then everybody says so and waits to be told to go on.
std::string Train(Meeting& meeting, int rank, bool stop_after_two, Shared* shared, Link& parent) {
  auto member = meeting.Join(rank, absl::Seconds(30));
  if (!member.ok()) return member.status().ToString();
  const RandomModel weights(SmallConfig(), DType::kF32, /*seed=*/3);
  Machine machine(*NewCpuBackend({.compute_type = DType::kF32}), weights);
  const TrainingJob job = GangJob(meeting.size());
  auto created = TrainingRun::Create(machine.model(), job.config, job.data,
                                     {"sha256:base", "sha256:data"}, &(*member)->communicator());
  if (!created.ok()) return created.status().ToString();
  TrainingRun& run = **created;
  if (shared->checkpoint_bytes > 0) {
    const absl::Status restored =
        run.RestoreCheckpoint(absl::string_view(shared->checkpoint, shared->checkpoint_bytes));
    if (!restored.ok()) return restored.ToString();
  }
  while (run.active()) {
    for (const RunMetrics& step : machine.Pass({&run})) {
      const StepMetrics& metrics = step.metrics;
      if (rank != 0) continue;
      shared->losses[metrics.step] = metrics.loss;
      shared->eval_losses[metrics.step] = metrics.eval_loss.value_or(0);
      if (metrics.step == 1) {
        const std::vector<float> m = run.adapter().ReadM();
        CHECK_LE(m.size(), std::size(shared->first_moment));
        shared->elements = static_cast<int64_t>(m.size());
        std::memcpy(shared->first_moment, m.data(), m.size() * sizeof(float));
      }
    }
    if (stop_after_two && run.step() == 2 && run.at_step_boundary() && !run.evaluating()) {
      const std::string checkpoint = run.SaveCheckpoint();
      if (rank == 0) {
        std::memcpy(shared->checkpoint, checkpoint.data(), checkpoint.size());
        shared->checkpoint_bytes = static_cast<int64_t>(checkpoint.size());
      }
      parent.Say("two steps");
      parent.Hear();
      stop_after_two = false;
    }
  }
  if (!run.status().ok()) return run.status().ToString();
  return AdapterDigest(run);
}

// The answers of all ranks.
std::vector<std::string> TrainGang(int size, Shared* shared) {
  Meeting meeting(CommunicatorKind::kTcp, size);
  std::vector<std::unique_ptr<RankProcess>> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(std::make_unique<RankProcess>([&, rank](Link& parent) {
      return Train(meeting, rank, /*stop_after_two=*/false, shared, parent);
    }));
  }
  std::vector<std::string> answers;
  for (const auto& rank : ranks) answers.push_back(rank->link().Hear());
  return answers;
}

double Distance(const Shared& a, const Shared& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements; ++i) {
    const double difference = static_cast<double>(a.first_moment[i]) - b.first_moment[i];
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

double Norm(const Shared& a) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements; ++i) {
    sum += static_cast<double>(a.first_moment[i]) * a.first_moment[i];
  }
  return std::sqrt(sum);
}

TEST(GangTest, EveryMemberHasTheSameBytesAndASizeGivesThemEachTime) {
  std::vector<std::string> digests;
  for (const int size : {1, 2, 4}) {
    SCOPED_TRACE(size);
    SharedArray<Shared> first(1), second(1);
    const std::vector<std::string> answers = TrainGang(size, first.data());
    ASSERT_EQ(answers[0].substr(0, 7), "sha256:") << answers[0];
    for (const std::string& answer : answers) EXPECT_EQ(answer, answers[0]);
    EXPECT_EQ(TrainGang(size, second.data()), answers);
    digests.push_back(answers[0]);
  }
  // Sums are rounded in other places: the numerics class names the size.
  EXPECT_NE(digests[0], digests[1]);
}

// Rows have the same bits in every gang; sums over tokens are cut in other places. A gradient's sum
// of some 250 terms in f32 is off by at most 250 * 2^-24 of the terms' magnitudes; rounding errors
// being random, by sqrt(250) * 2^-24 = 1e-6 of the norm. Losses of later steps by ENGINE's bound
// for the same training in f32.
TEST(GangTest, AGangIsOneRunWithTheWholeBatchButForTheOrderOfSums) {
  SharedArray<Shared> alone(1);
  ASSERT_EQ(TrainGang(1, alone.data())[0].substr(0, 7), "sha256:");
  ASSERT_GT(alone.data()->elements, 0);
  for (const int size : {2, 4}) {
    SCOPED_TRACE(size);
    SharedArray<Shared> gang(1);
    TrainGang(size, gang.data());
    ASSERT_EQ(gang.data()->elements, alone.data()->elements);
    EXPECT_LE(Distance(*gang.data(), *alone.data()), 1e-6 * Norm(*alone.data()));
    EXPECT_GT(Distance(*gang.data(), *alone.data()), 0) << "nothing was cut";
    for (int64_t step = 1; step <= kSteps; ++step) {
      EXPECT_NEAR(gang.data()->losses[step], alone.data()->losses[step],
                  1e-5 * alone.data()->losses[step])
          << step;
      EXPECT_NEAR(gang.data()->eval_losses[step], alone.data()->eval_losses[step],
                  1e-5 * alone.data()->eval_losses[step])
          << step;
    }
    EXPECT_GT(gang.data()->eval_losses[2], 0);
  }
}

TEST(GangTest, AKilledMemberBreaksTheGangWhichStartsAgainFromTheCheckpoint) {
  SharedArray<Shared> undisturbed(1);
  const std::string want = TrainGang(2, undisturbed.data())[0];
  SharedArray<Shared> shared(1);
  {
    Meeting meeting(CommunicatorKind::kTcp, 2);
    std::vector<std::unique_ptr<RankProcess>> ranks;
    for (int rank = 0; rank < 2; ++rank) {
      ranks.push_back(std::make_unique<RankProcess>([&, rank](Link& parent) {
        return Train(meeting, rank, /*stop_after_two=*/true, shared.data(), parent);
      }));
    }
    for (const auto& rank : ranks) ASSERT_EQ(rank->link().Hear(), "two steps");
    ranks[1]->Kill();
    ranks[0]->link().Say("go on");
    const std::string answer = ranks[0]->link().Hear();
    EXPECT_EQ(answer.substr(0, 11), "UNAVAILABLE") << answer;
    EXPECT_NE(answer.find("rank 1"), std::string::npos) << answer;
  }
  ASSERT_GT(shared.data()->checkpoint_bytes, 0);
  for (const std::string& answer : TrainGang(2, shared.data())) EXPECT_EQ(answer, want);
  EXPECT_EQ(shared.data()->losses[kSteps], undisturbed.data()->losses[kSteps]);
}

TEST(GangTest, ACheckpointOfOneSizeIsRefusedByAnother) {
  SharedArray<Shared> shared(1);
  {
    Meeting meeting(CommunicatorKind::kTcp, 1);
    RankProcess rank([&](Link& parent) {
      return Train(meeting, 0, /*stop_after_two=*/true, shared.data(), parent);
    });
    ASSERT_EQ(rank.link().Hear(), "two steps");
  }
  for (const std::string& answer : TrainGang(2, shared.data())) {
    EXPECT_EQ(answer.substr(0, 19), "FAILED_PRECONDITION") << answer;
  }
}

}  // namespace
}  // namespace deltaworks::trainer
