// WorkerIndex: which worker would take a job of this shape, without asking all of them.
//
// The workers that take jobs, in groups of one kind (device, memory, numerics class): the empty
// ones, those of them that hold a base, and those that train a cohort others may join, by the
// length of its pass. What it answers is what checking every worker with CheckWorker and taking the
// least PlacementCost would answer; worker_index_test compares the two. Derived from State and
// Fleet, not stored. Not thread-safe.

#ifndef DELTAWORKS_SCHEDULER_WORKER_INDEX_H_
#define DELTAWORKS_SCHEDULER_WORKER_INDEX_H_

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/placement.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

class WorkerIndex {
 public:
  // True for a worker that is not to be considered.
  using Skip = absl::FunctionRef<bool(const std::string& worker)>;

  // Of all workers. Both must outlive it, and Update must be called for every worker of which one
  // of them says that it changed, before the next question.
  WorkerIndex(const State& state, const Fleet& fleet, const Options& options);

  void Update(const std::string& worker);

  // The best worker that takes the job now; nullptr if none does. Of each kind at most
  // kCohortsAsked cohorts are asked, those with the shortest passes.
  const WorkerInfo* Choose(const JobShape& shape, bool any_class, Skip skip) const;

  // For a gang: workers of one kind that are empty, those with the base first, or, with
  // `empty_later`, that will be empty soonest; as many as it needs, or none.
  std::vector<const WorkerInfo*> ChooseGang(const JobShape& shape, bool any_class, bool empty_later,
                                            Skip skip) const;

  // Whether a worker that takes jobs could hold it, were it empty (enough of one kind, for a gang);
  // and how many could (of one kind, for a gang).
  bool IsFeasible(const JobShape& shape, bool any_class) const;
  int64_t CountFeasible(const JobShape& shape, bool any_class) const;

  // Of those, the one that will be empty soonest, by the FLOPs its jobs still need; nullptr if all
  // are skipped.
  const WorkerInfo* SoonestEmpty(const JobShape& shape, bool any_class, Skip skip) const;

  // Workers that could hold it, were they empty, with an attempt of a class below `class_end` that
  // stays; those with the lowest first. Until `visit` says false.
  void VisitByClass(const JobShape& shape, bool any_class, int class_end,
                    absl::FunctionRef<bool(const WorkerInfo& worker)> visit) const;

  // Of each kind the `max` that will be empty soonest, in that order.
  void VisitSoonest(int max, absl::FunctionRef<void(const WorkerInfo& worker)> visit) const;

  static constexpr int kCohortsAsked = 32;

 private:
  // Device kind, numerics class, memory.
  using Kind = std::tuple<std::string, std::string, int64_t>;
  using Names = absl::btree_set<std::string>;
  // One that trains a cohort. Asked often, so found once.
  struct Open {
    int64_t pass_tokens;
    std::string worker;
    const WorkerInfo* info;
    const WorkerLoad* load;
    friend bool operator<(const Open& a, const Open& b) {
      return std::tie(a.pass_tokens, a.worker) < std::tie(b.pass_tokens, b.worker);
    }
  };
  struct Group {
    // By the FLOPs that its jobs still need.
    absl::btree_set<std::pair<double, std::string>> all;
    // By the lowest class of the attempts that stay.
    absl::btree_set<std::pair<int, std::string>> by_class;
    Names empty;
    absl::btree_map<std::string, Names> empty_by_base;
    // By cohort.
    absl::btree_map<std::string, absl::btree_set<Open>> open;
  };
  // What a worker was put in by.
  struct Entry {
    Kind kind;
    std::vector<std::string> bases;
    double remaining_flops = 0;
    int lowest_class = 0;
    bool is_empty = false;
    std::string cohort;
    int64_t pass_tokens = 0;
  };

  void Put(const std::string& worker, const Entry& entry, bool in);
  static bool Suits(const JobShape& shape, const Kind& kind, bool any_class);
  const WorkerInfo& InfoOf(const std::string& worker) const;
  // First of `names` that has the labels and is not skipped.
  const WorkerInfo* FirstOf(const Names& names, const JobShape& shape, Skip skip) const;
  const WorkerInfo* ChooseEmpty(const Group& group, const JobShape& shape, Skip skip) const;
  const WorkerInfo* ChooseOpen(const Group& group, const JobShape& shape, Skip skip) const;

  const State& state_;
  const Fleet& fleet_;
  const Options options_;
  std::map<Kind, Group> groups_;
  absl::btree_map<std::string, Entry> entries_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_WORKER_INDEX_H_
