#include "scheduler/worker_index.h"

#include <algorithm>
#include <optional>

#include "glog/logging.h"
#include "scheduler/pass_speed.h"

namespace deltaworks::scheduler {
namespace {

template <typename Map, typename Item>
void PutInto(Map* map, const std::string& key, const Item& item, bool in) {
  if (in) {
    (*map)[key].insert(item);
    return;
  }
  const auto found = map->find(key);
  found->second.erase(item);
  if (found->second.empty()) map->erase(found);
}

}  // namespace

WorkerIndex::WorkerIndex(const State& state, const Fleet& fleet, const Options& options)
    : state_(state), fleet_(fleet), options_(options) {
  for (const auto& [name, worker] : fleet.workers()) Update(name);
}

void WorkerIndex::Update(const std::string& worker) {
  if (const auto old = entries_.find(worker); old != entries_.end()) {
    Put(worker, old->second, /*in=*/false);
    entries_.erase(old);
  }
  const WorkerInfo* const info = fleet_.Find(worker);
  if (info == nullptr || !TakesJobs(*info, state_.WorkerMode(worker))) return;
  const WorkerLoad& load = state_.LoadOf(worker);
  Entry entry = {.kind = Kind(info->environment.device_kind(), info->environment.numerics_class(),
                              info->environment.memory_bytes()),
                 .remaining_flops = load.remaining_flops(),
                 .lowest_class = load.lowest_class(),
                 .is_empty = load.empty(),
                 .cohort = load.Full(options_) ? "" : load.cohort(),
                 .pass_tokens = load.pass_tokens()};
  // As often as it is named there, once.
  const Names bases(info->environment.bases_cached().begin(),
                    info->environment.bases_cached().end());
  entry.bases.assign(bases.begin(), bases.end());
  Put(worker, entry, /*in=*/true);
  entries_.emplace(worker, std::move(entry));
}

void WorkerIndex::Put(const std::string& worker, const Entry& entry, bool in) {
  Group& group = groups_[entry.kind];
  if (in) {
    group.all.emplace(entry.remaining_flops, worker);
    group.by_class.emplace(entry.lowest_class, worker);
  } else {
    group.all.erase({entry.remaining_flops, worker});
    group.by_class.erase({entry.lowest_class, worker});
  }
  if (entry.is_empty) {
    if (in) {
      group.empty.insert(worker);
    } else {
      group.empty.erase(worker);
    }
    for (const std::string& base : entry.bases) PutInto(&group.empty_by_base, base, worker, in);
  } else if (!entry.cohort.empty()) {
    const Open open = {.pass_tokens = entry.pass_tokens,
                       .worker = worker,
                       .info = fleet_.Find(worker),
                       .load = &state_.LoadOf(worker)};
    PutInto(&group.open, entry.cohort, open, in);
  }
  if (group.all.empty()) groups_.erase(entry.kind);
}

bool WorkerIndex::Suits(const JobShape& shape, const Kind& kind, bool any_class) {
  const auto& [device_kind, numerics_class, memory_bytes] = kind;
  return (shape.device_kind.empty() || shape.device_kind == device_kind) &&
         shape.memory_bytes <= memory_bytes &&
         (any_class || shape.numerics_class.empty() || shape.numerics_class == numerics_class);
}

const WorkerInfo& WorkerIndex::InfoOf(const std::string& worker) const {
  const WorkerInfo* const info = fleet_.Find(worker);
  CHECK(info != nullptr) << worker << " was forgotten, and the index was not told";
  return *info;
}

const WorkerInfo* WorkerIndex::FirstOf(const Names& names, const JobShape& shape, Skip skip) const {
  for (const std::string& name : names) {
    if (skip(name)) continue;
    const WorkerInfo& worker = InfoOf(name);
    if (HasLabels(shape, worker)) return &worker;
  }
  return nullptr;
}

const WorkerInfo* WorkerIndex::ChooseEmpty(const Group& group, const JobShape& shape,
                                           Skip skip) const {
  const auto with_base = group.empty_by_base.find(shape.base_manifest_digest);
  if (with_base != group.empty_by_base.end()) {
    if (const WorkerInfo* worker = FirstOf(with_base->second, shape, skip)) return worker;
  }
  return FirstOf(group.empty, shape, skip);
}

const WorkerInfo* WorkerIndex::ChooseOpen(const Group& group, const JobShape& shape,
                                          Skip skip) const {
  const auto cohort = shape.alone() ? group.open.end() : group.open.find(shape.cohort);
  if (cohort == group.open.end()) return nullptr;
  int asked = 0;
  for (const Open& open : cohort->second) {
    if (skip(open.worker)) continue;
    if (++asked > kCohortsAsked) break;
    // What is left of CheckWorker, as it takes jobs and its kind suits.
    const WorkerInfo& worker = *open.info;
    if (HasLabels(shape, worker) && open.load->Admits(shape, worker.environment.memory_bytes(),
                                                      OverheadTokens(shape, worker), options_)) {
      return &worker;
    }
  }
  return nullptr;
}

const WorkerInfo* WorkerIndex::Choose(const JobShape& shape, bool any_class, Skip skip) const {
  const WorkerInfo* best = nullptr;
  std::optional<PlacementCost> best_cost;
  for (const auto& [kind, group] : groups_) {
    if (!Suits(shape, kind, any_class)) continue;
    const WorkerInfo* worker = ChooseEmpty(group, shape, skip);
    if (worker == nullptr) worker = ChooseOpen(group, shape, skip);
    if (worker == nullptr) continue;
    PlacementCost cost = CostOf(shape, *worker, state_.LoadOf(worker->name));
    if (best_cost.has_value() && *best_cost < cost) continue;
    best = worker;
    best_cost = std::move(cost);
  }
  return best;
}

std::vector<const WorkerInfo*> WorkerIndex::ChooseGang(const JobShape& shape, bool any_class,
                                                       bool empty_later, Skip skip) const {
  std::vector<const WorkerInfo*> best;
  double best_flops = 0;
  for (const auto& [kind, group] : groups_) {
    if (!Suits(shape, kind, any_class)) continue;
    std::vector<const WorkerInfo*> gang;
    double last_flops = 0;
    // True once there are enough.
    const auto take = [&](const std::string& name) {
      const WorkerInfo& worker = InfoOf(name);
      if (!skip(name) && HasLabels(shape, worker) && MayJoinGang(shape, worker)) {
        gang.push_back(&worker);
      }
      return static_cast<int32_t>(gang.size()) == shape.gang_size;
    };
    if (empty_later) {
      for (const auto& [flops, name] : group.all) {
        last_flops = flops;
        if (take(name)) break;
      }
    } else {
      static const Names* const kNone = new Names();
      const auto with_base = group.empty_by_base.find(shape.base_manifest_digest);
      const Names& first = with_base == group.empty_by_base.end() ? *kNone : with_base->second;
      const bool enough = std::any_of(first.begin(), first.end(), take);
      for (auto name = group.empty.begin(); !enough && name != group.empty.end(); ++name) {
        if (!first.contains(*name) && take(*name)) break;
      }
    }
    if (static_cast<int32_t>(gang.size()) < shape.gang_size) continue;
    if (!best.empty() && best_flops <= last_flops) continue;
    best = std::move(gang);
    best_flops = last_flops;
  }
  return best;
}

bool WorkerIndex::IsFeasible(const JobShape& shape, bool any_class) const {
  const auto skip = [](const std::string&) { return false; };
  if (shape.gang_size > 1) {
    return !ChooseGang(shape, any_class, /*empty_later=*/true, skip).empty();
  }
  return SoonestEmpty(shape, any_class, skip) != nullptr;
}

int64_t WorkerIndex::CountFeasible(const JobShape& shape, bool any_class) const {
  int64_t all = 0, most = 0;
  for (const auto& [kind, group] : groups_) {
    if (!Suits(shape, kind, any_class)) continue;
    int64_t count = 0;
    if (shape.labels.empty() && shape.gang_size == 1) {
      count = static_cast<int64_t>(group.all.size());
    } else {
      for (const auto& [flops, name] : group.all) {
        const WorkerInfo* const worker = fleet_.Find(name);
        count += worker != nullptr && HasLabels(shape, *worker) && MayJoinGang(shape, *worker);
      }
    }
    all += count;
    most = std::max(most, count);
  }
  return shape.gang_size > 1 ? most : all;
}

void WorkerIndex::VisitSoonest(int max,
                               absl::FunctionRef<void(const WorkerInfo& worker)> visit) const {
  for (const auto& [kind, group] : groups_) {
    int left = max;
    for (const auto& [flops, name] : group.all) {
      if (left-- == 0) break;
      const WorkerInfo* const worker = fleet_.Find(name);
      if (worker != nullptr) visit(*worker);
    }
  }
}

const WorkerInfo* WorkerIndex::SoonestEmpty(const JobShape& shape, bool any_class,
                                            Skip skip) const {
  const WorkerInfo* best = nullptr;
  double best_flops = 0;
  for (const auto& [kind, group] : groups_) {
    if (!Suits(shape, kind, any_class)) continue;
    for (const auto& [flops, name] : group.all) {
      if (best != nullptr && best_flops <= flops) break;
      if (skip(name)) continue;
      const WorkerInfo& worker = InfoOf(name);
      if (!HasLabels(shape, worker)) continue;
      best = &worker;
      best_flops = flops;
      break;
    }
  }
  return best;
}

void WorkerIndex::VisitByClass(const JobShape& shape, bool any_class, int class_end,
                               absl::FunctionRef<bool(const WorkerInfo& worker)> visit) const {
  for (int lowest = 0; lowest < class_end; ++lowest) {
    for (const auto& [kind, group] : groups_) {
      if (!Suits(shape, kind, any_class)) continue;
      for (auto it = group.by_class.lower_bound({lowest, ""});
           it != group.by_class.end() && it->first == lowest; ++it) {
        const WorkerInfo& worker = InfoOf(it->second);
        if (HasLabels(shape, worker) && !visit(worker)) return;
      }
    }
  }
}

}  // namespace deltaworks::scheduler
