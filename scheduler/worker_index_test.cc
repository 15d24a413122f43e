// The index answers what asking every worker would: random fleets, loads and questions from a seed.

#include "scheduler/worker_index.h"

#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"

namespace deltaworks::scheduler {
namespace {

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    for (int i = 0; i < 12; ++i) {
      FakeWorker& worker = workers_.emplace_back(absl::StrCat("w", i));
      worker.environment.set_device_kind(Pick(2) == 0 ? "cpu" : "cuda");
      worker.environment.set_memory_bytes(int64_t{2 << 20} << Pick(3));
      worker.environment.set_numerics_class(absl::StrCat("class-", Pick(2)));
      if (Pick(2) == 0) (*worker.environment.mutable_labels())["zone"] = "a";
      if (Pick(2) == 0) worker.environment.add_bases_cached(FakeDigest(1));
      if (Pick(3) == 0) worker.environment.add_bases_cached(FakeDigest(1));  // Twice is once.
    }
  }

  void Step(int number) {
    FakeWorker& worker = workers_[Pick(workers_.size())];
    switch (Pick(5)) {
      case 0:
        worker.draining = Pick(4) == 0;
        break;
      case 1:
        worker.environment.mutable_bases_cached()->Clear();
        break;
      case 2: {
        v1::SetWorkerModeRequest request;
        request.set_worker(worker.name);
        request.set_mode(Pick(3) == 0 ? v1::WORKER_CORDONED : v1::WORKER_ACTIVE);
        (void)h_.Execute(request);  // Not found before it reported.
        break;
      }
      default:
        h_.Submit(Request(number), Facts());
    }
    std::vector<v1::AttemptReport> held;
    for (const v1::Assignment& assignment : worker.answer.assignments()) {
      if (Pick(4) == 0) continue;
      held.push_back(Harness::Report(
          assignment, Pick(4) == 0 ? v1::AttemptReport::LEFT : v1::AttemptReport::TRAINING, 1));
    }
    ASSERT_TRUE(h_.Sync(&worker, held).ok());
    if (Pick(6) == 0) h_.Advance(absl::Seconds(Pick(30)));
    if (Pick(40) == 0) h_.Reload();
  }

  // All questions of the moment.
  void Compare(int64_t* chosen) {
    const State& state = *h_.scheduler->state();
    const Fleet& fleet = h_.scheduler->fleet();
    const WorkerIndex& index = h_.scheduler->workers();
    for (int i = 0; i < 20; ++i) {
      JobRecord record;
      *record.mutable_job() = Request(i).job();
      record.mutable_job()->set_name("tenants/t/jobs/asked");
      *record.mutable_job()->mutable_status()->mutable_facts() = Facts();
      if (Pick(3) == 0) record.mutable_job()->mutable_status()->set_numerics_class("class-0");
      const JobShape shape = ShapeOf(record, h_.options);
      const bool any_class = Pick(2) == 0;
      const std::string skipped = workers_[Pick(workers_.size())].name;
      const auto skip = [&](const std::string& worker) { return worker == skipped; };

      const WorkerInfo* best = nullptr;
      PlacementCost best_cost;
      bool feasible = false;
      double soonest = -1;
      for (const auto& [name, worker] : fleet.workers()) {
        const WorkerLoad& load = state.LoadOf(name);
        const v1::WorkerMode mode = state.WorkerMode(name);
        const bool fits_kind = TakesJobs(worker, mode) &&
                               CheckWorkerKind(shape, worker, any_class).verdict == Verdict::kFits;
        feasible = feasible || fits_kind;
        if (name == skipped) continue;
        if (fits_kind && (soonest < 0 || load.remaining_flops() < soonest)) {
          soonest = load.remaining_flops();
        }
        if (CheckWorker(shape, worker, mode, load, any_class, h_.options).verdict !=
            Verdict::kFits) {
          continue;
        }
        PlacementCost cost = CostOf(shape, worker, load);
        if (best == nullptr || cost < best_cost) {
          best = &worker;
          best_cost = std::move(cost);
        }
      }
      EXPECT_EQ(index.Choose(shape, any_class, skip), best)
          << (best == nullptr ? "none" : best->name);
      EXPECT_EQ(index.IsFeasible(shape, any_class), feasible);
      const WorkerInfo* const empty_soon = index.SoonestEmpty(shape, any_class, skip);
      EXPECT_EQ(empty_soon == nullptr ? -1 : state.LoadOf(empty_soon->name).remaining_flops(),
                soonest);
      ExpectVisits(shape, any_class);
      *chosen += best == nullptr ? 0 : 1;
    }
  }

 private:
  size_t Pick(size_t n) { return random_() % n; }

  void ExpectVisits(const JobShape& shape, bool any_class) {
    const State& state = *h_.scheduler->state();
    const int class_end = static_cast<int>(Pick(5));
    std::set<std::string> wanted;
    for (const auto& [name, worker] : h_.scheduler->fleet().workers()) {
      if (TakesJobs(worker, state.WorkerMode(name)) &&
          state.LoadOf(name).lowest_class() < class_end &&
          CheckWorkerKind(shape, worker, any_class).verdict == Verdict::kFits) {
        wanted.insert(name);
      }
    }
    std::set<std::string> visited;
    int last_class = 0;
    h_.scheduler->workers().VisitByClass(
        shape, any_class, class_end, [&](const WorkerInfo& worker) {
          EXPECT_TRUE(visited.insert(worker.name).second);
          EXPECT_GE(state.LoadOf(worker.name).lowest_class(), last_class);
          last_class = state.LoadOf(worker.name).lowest_class();
          return true;
        });
    EXPECT_EQ(visited, wanted);
  }

  v1::CreateJobRequest Request(int number) {
    v1::CreateJobRequest request = MakeCreateRequest(absl::StrCat("job-", number));
    v1::Placement& placement = *request.mutable_job()->mutable_placement();
    if (Pick(3) == 0) placement.set_device_kind(Pick(2) == 0 ? "cpu" : "cuda");
    if (Pick(4) == 0) (*placement.mutable_worker_labels())["zone"] = "a";
    request.mutable_job()->set_priority_class(static_cast<v1::PriorityClass>(1 + Pick(3)));
    placement.set_cohort(static_cast<v1::Placement::Cohort>(Pick(4)));
    return request;
  }

  v1::TrainFacts Facts() {
    v1::TrainFacts facts = MakeSharingFacts(int64_t{1} << (4 + Pick(8)));
    facts.set_base_manifest_digest(FakeDigest(1 + static_cast<int64_t>(Pick(2))));
    facts.set_total_steps(static_cast<int64_t>(1 + Pick(100)));
    if (Pick(4) == 0) facts.clear_memory();
    return facts;
  }

  std::mt19937_64 random_;
  Harness h_;
  std::vector<FakeWorker> workers_;
};

TEST(WorkerIndexTest, ItAnswersWhatAskingEveryWorkerWouldAnswer) {
  int64_t chosen = 0;
  for (uint64_t seed = 1; seed <= 20 && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    World world(seed);
    for (int step = 0; step < 80 && !HasFailure(); ++step) {
      world.Step(step);
      world.Compare(&chosen);
    }
  }
  EXPECT_GT(chosen, 5'000);
  EXPECT_LT(chosen, 30'000);
}

}  // namespace
}  // namespace deltaworks::scheduler
