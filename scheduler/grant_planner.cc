#include "scheduler/grant_planner.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "scheduler/job_record.h"
#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {

bool PromiseStands(const JobRecord& record, const State& state, const Fleet& fleet,
                   const Options& options, absl::Time now) {
  if (record.promised_worker().empty() ||
      now >= FromProto(record.promise_time()) + options.yield_grace + 2 * options.lease_duration) {
    return false;
  }
  const WorkerInfo* const worker = fleet.Find(record.promised_worker());
  if (worker == nullptr || !TakesJobs(*worker, state.WorkerMode(worker->name))) return false;
  const JobShape shape = ShapeOf(record, options);
  return CheckWorkerKind(shape, *worker, MayChangeClass(shape, fleet, options, now)).verdict ==
         Verdict::kFits;
}

TenantShare ShareOf(const std::string& tenant, const State& state, const Options& options,
                    absl::Time now) {
  TenantShare share;
  if (const auto quota = state.quotas().find(tenant); quota != state.quotas().end()) {
    share.weight = quota->second.weight();
    share.guaranteed_devices = quota->second.guaranteed_devices();
    if (quota->second.has_limit_devices()) share.limit_devices = quota->second.limit_devices();
  }
  share.used_seconds = state.usage().Decayed(tenant, now, options.fair_share_half_life);
  share.attempts = state.AttemptsOf(tenant);
  share.devices = static_cast<int64_t>(state.DevicesOf(tenant).size());
  return share;
}

GrantPlanner::GrantPlanner(const State& state, const Fleet& fleet, const WorkerIndex& workers,
                           const Options& options, absl::Time now)
    : state_(state), fleet_(fleet), workers_(workers), options_(options), now_(now) {}

std::vector<GrantAttempt> GrantPlanner::Run() {
  if (state_.queue().empty()) return {};
  PlacePromised();
  HoldForRetries();
  if (FindRoom() && PlaceOverdue()) PlaceFairly();
  return std::move(grants_);
}

GrantPlanner::Turn& GrantPlanner::TurnOf(const std::string& tenant) {
  const auto [turn, is_new] = turns_.try_emplace(tenant);
  if (is_new) {
    turn->second.tenant = tenant;
    turn->second.share = ShareOf(tenant, state_, options_, now_);
  }
  return turn->second;
}

const WorkerLoad& GrantPlanner::LoadOf(const std::string& worker) const {
  const auto planned = planned_.find(worker);
  return planned == planned_.end() ? state_.LoadOf(worker) : planned->second;
}

bool GrantPlanner::MayChange(const ShapeQueue& shape) {
  const auto [found, is_new] = may_change_.try_emplace(&shape);
  if (is_new) found->second = MayChangeClass(shape.shape, fleet_, options_, now_);
  return found->second;
}

bool GrantPlanner::FindRoom() {
  const auto skip = [&](const std::string& worker) { return held_.contains(worker); };
  for (const auto& [shape, queue] : state_.queue().shapes()) {
    const bool any_class = MayChange(queue);
    const bool room =
        shape.gang_size > 1
            ? !workers_.ChooseGang(shape, any_class, /*empty_later=*/false, skip).empty()
            : workers_.Choose(shape, any_class, skip) != nullptr;
    if (!room) full_.insert(&queue);
  }
  return full_.size() < state_.queue().shapes().size();
}

bool GrantPlanner::MayBeOn(const Turn& turn, const std::string& worker) const {
  return !turn.share.at_limit() || turn.planned_devices.contains(worker) ||
         state_.DevicesOf(turn.tenant).contains(worker);
}

bool GrantPlanner::IsLimited(const JobShape& shape, const Turn& turn) {
  return turn.share.devices + shape.gang_size > turn.share.limit_devices;
}

bool GrantPlanner::IsHeldFromJob(const std::string& worker, const std::string& job) const {
  const auto held = held_.find(worker);
  return held != held_.end() && held->second != job;
}

const WorkerInfo* GrantPlanner::Choose(const QueueKey& key, const ShapeQueue& shape,
                                       const Turn& turn) {
  const bool any_class = MayChange(shape);
  const WorkerInfo* best = nullptr;
  PlacementCost best_cost;
  const auto consider = [&](const WorkerInfo& worker) {
    PlacementCost cost = CostOf(shape.shape, worker, LoadOf(worker.name));
    if (best != nullptr && best_cost < cost) return;
    best = &worker;
    best_cost = std::move(cost);
  };
  const auto check = [&](const std::string& name) {
    const WorkerInfo* const worker = fleet_.Find(name);
    if (worker == nullptr || IsHeldFromJob(name, key.job) || !MayBeOn(turn, name)) return;
    const Fit fit = CheckWorker(shape.shape, *worker, state_.WorkerMode(name), LoadOf(name),
                                any_class, options_);
    if (fit.verdict == Verdict::kFits) consider(*worker);
  };
  if (turn.share.at_limit()) {
    for (const auto& [name, attempts] : state_.DevicesOf(turn.tenant)) check(name);
    for (const std::string& name : turn.planned_devices) check(name);
    return best;
  }
  // The index does not know what was planned.
  for (const auto& [name, load] : planned_) check(name);
  const auto skip = [&](const std::string& name) {
    return planned_.contains(name) || IsHeldFromJob(name, key.job);
  };
  if (const WorkerInfo* worker = workers_.Choose(shape.shape, any_class, skip)) consider(*worker);
  return best;
}

void GrantPlanner::Grant(const QueueKey& key, const JobShape& shape, const WorkerInfo& worker,
                         Turn* turn) {
  grants_.push_back({.job = key.job,
                     .worker = worker.name,
                     .worker_incarnation = worker.incarnation,
                     .numerics_class = worker.environment.numerics_class(),
                     .alone = shape.alone()});
  PlanOn(key.job, shape, worker, turn);
}

void GrantPlanner::GrantGang(const QueueKey& key, const JobShape& shape,
                             const std::vector<const WorkerInfo*>& gang, Turn* turn) {
  const WorkerInfo& first = *gang.front();
  GrantAttempt& grant =
      grants_.emplace_back(GrantAttempt{.job = key.job,
                                        .worker = first.name,
                                        .worker_incarnation = first.incarnation,
                                        .numerics_class = first.environment.numerics_class(),
                                        .alone = true});
  for (size_t i = 1; i < gang.size(); ++i) {
    grant.others.emplace_back(gang[i]->name, gang[i]->incarnation);
  }
  for (const WorkerInfo* worker : gang) PlanOn(key.job, shape, *worker, turn);
}

void GrantPlanner::PlanOn(const std::string& job, const JobShape& shape, const WorkerInfo& worker,
                          Turn* turn) {
  placed_.insert(job);
  const auto [load, is_new] = planned_.try_emplace(worker.name);
  if (is_new) load->second = state_.LoadOf(worker.name);
  load->second.Add({.job = job, .shape = shape, .alone = shape.alone()});
  ++turn->share.attempts;
  if (!state_.DevicesOf(turn->tenant).contains(worker.name) &&
      turn->planned_devices.insert(worker.name).second) {
    ++turn->share.devices;
  }
}

std::vector<const WorkerInfo*> GrantPlanner::ChooseGang(const std::string& job,
                                                        const JobShape& shape, bool any_class,
                                                        const Turn& turn) const {
  // All of them are empty, so the tenant is on none of them yet.
  if (IsLimited(shape, turn)) return {};
  return workers_.ChooseGang(shape, any_class, /*empty_later=*/false,
                             [&](const std::string& worker) {
                               return planned_.contains(worker) || IsHeldFromJob(worker, job);
                             });
}

bool GrantPlanner::Place(const QueueKey& key, const ShapeQueue& shape, Turn* turn) {
  if (shape.shape.gang_size > 1) {
    const auto gang = ChooseGang(key.job, shape.shape, MayChange(shape), *turn);
    if (gang.empty()) return false;
    GrantGang(key, shape.shape, gang, turn);
    return true;
  }
  const WorkerInfo* const worker = Choose(key, shape, *turn);
  if (worker == nullptr) return false;
  Grant(key, shape.shape, *worker, turn);
  return true;
}

void GrantPlanner::Hold(const QueueKey& key, const ShapeQueue& shape) {
  if (!holders_.insert(key.job).second) return;  // It has one, as it is overdue.
  HoldFor(key.job, shape.shape, MayChange(shape));
}

bool GrantPlanner::HoldFor(const std::string& job, const JobShape& shape, bool any_class) {
  const auto skip = [&](const std::string& worker) { return held_.contains(worker); };
  if (shape.gang_size > 1) {
    const auto gang = workers_.ChooseGang(shape, any_class, /*empty_later=*/true, skip);
    for (const WorkerInfo* worker : gang) held_.emplace(worker->name, job);
    return !gang.empty();
  }
  const WorkerInfo* const worker = workers_.SoonestEmpty(shape, any_class, skip);
  if (worker != nullptr) held_.emplace(worker->name, job);
  return worker != nullptr;
}

void GrantPlanner::PlacePromised() {
  for (const std::string& job : state_.promised()) {
    const JobRecord& record = *state_.FindJob(job);
    if (!PromiseStands(record, state_, fleet_, options_, now_)) continue;
    const WorkerInfo& worker = *fleet_.Find(record.promised_worker());
    const JobShape shape = ShapeOf(record, options_);
    Turn& turn = TurnOf(std::string(TenantOf(job)));
    if (held_.contains(worker.name) || !MayBeOn(turn, worker.name)) continue;
    const Fit fit = CheckWorker(shape, worker, state_.WorkerMode(worker.name), LoadOf(worker.name),
                                MayChangeClass(shape, fleet_, options_, now_), options_);
    if (fit.verdict == Verdict::kFits) {
      Grant(MakeQueueKey(record.job(), options_), shape, worker, &turn);
    } else {
      held_.emplace(worker.name, job);
    }
  }
}

void GrantPlanner::HoldForRetries() {
  size_t kept = 0;
  for (const auto& [time, job] : state_.waits_until()) {
    if (time > now_ + options_.retry_hold || kept == kHeldMax) return;
    const JobRecord& record = *state_.FindJob(job);
    if (!IsBackingOff(record)) continue;
    const JobShape shape = ShapeOf(record, options_);
    kept += HoldFor(job, shape, MayChangeClass(shape, fleet_, options_, now_)) ? 1 : 0;
  }
}

void GrantPlanner::Lines::Push(const Line& line) {
  heap_.push_back(line);
  std::push_heap(heap_.begin(), heap_.end(), IsLater);
}

GrantPlanner::Line GrantPlanner::Lines::Pop() {
  std::pop_heap(heap_.begin(), heap_.end(), IsLater);
  const Line line = heap_.back();
  heap_.pop_back();
  return line;
}

void GrantPlanner::PushUnplaced(Line line, Lines* lines) const {
  while (line.next != line.end && placed_.contains(line.next->job)) ++line.next;
  if (line.next != line.end) lines->Push(line);
}

bool GrantPlanner::PlaceOverdue() {
  const absl::Time last_rank = now_ - options_.bonus_high - options_.max_overtake;
  Lines lines;
  absl::flat_hash_map<const ShapeQueue*, bool> feasible;
  for (const auto& [tenant, queue] : state_.queue().tenants()) {
    for (const auto& [shape, keys] : queue) {
      if (last_rank < keys.begin()->rank) continue;
      const auto [known, is_new] = feasible.try_emplace(shape);
      if (is_new) known->second = workers_.IsFeasible(shape->shape, MayChange(*shape));
      if (!known->second) continue;
      PushUnplaced({keys.begin(), keys.end(), shape, &TurnOf(tenant)}, &lines);
    }
  }
  while (!lines.empty() && grants_.size() < kGrantsMax) {
    Line line = lines.Pop();
    if (last_rank < line.next->rank) break;
    const QueueKey& key = *line.next;
    if (!Place(key, *line.shape, line.turn)) {
      // Nor can one behind it, of the same tenant and shape, be on more devices.
      if (IsLimited(line.shape->shape, *line.turn)) continue;
      if (held_.size() >= kHeldOverdueMax) return false;
      Hold(key, *line.shape);
    }
    ++line.next;
    PushUnplaced(line, &lines);
  }
  return true;
}

void GrantPlanner::PlaceFairly() {
  // Of each tenant that waits its first job, in the order of their turns.
  using Order = std::tuple<bool, double, QueueKey, Turn*>;
  std::set<Order> order;
  const auto enter = [&](Turn* turn) {
    if (turn->lines.empty()) return;
    order.emplace(!turn->share.below_guaranteed(), Standing(turn->share, options_.attempt_charge),
                  *turn->lines.first().next, turn);
  };
  for (const auto& [tenant, queue] : state_.queue().tenants()) {
    Turn& turn = TurnOf(tenant);
    for (const auto& [shape, keys] : queue) {
      PushUnplaced({keys.begin(), keys.end(), shape, &turn}, &turn.lines);
    }
    enter(&turn);
  }
  const size_t held_max = held_.size() + kHeldMax;
  absl::flat_hash_set<const ShapeQueue*> kept;  // A worker was asked for, for its first job.
  while (!order.empty() && grants_.size() < kGrantsMax &&
         full_.size() < state_.queue().shapes().size()) {
    Turn* const turn = std::get<Turn*>(*order.begin());
    order.erase(order.begin());
    Line line = turn->lines.Pop();
    const ShapeQueue& shape = *line.shape;
    if (!full_.contains(&shape) && Place(*line.next, shape, turn)) {
      ++line.next;
      PushUnplaced(line, &turn->lines);
    } else if (!IsLimited(shape.shape, *turn)) {
      full_.insert(&shape);
      if (held_.size() < held_max && kept.insert(&shape).second) Hold(*line.next, shape);
    }
    // Once nothing more is kept, who finds no room is not looked at.
    while (held_.size() >= held_max && !turn->lines.empty() &&
           full_.contains(turn->lines.first().shape)) {
      turn->lines.Pop();
    }
    enter(turn);
  }
}

}  // namespace deltaworks::scheduler
