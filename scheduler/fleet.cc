#include "scheduler/fleet.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace deltaworks::scheduler {
namespace {

constexpr absl::Duration kForgetAfter = absl::Hours(24);

bool SameEnvironment(const v1::WorkerEnvironment& a, const v1::WorkerEnvironment& b) {
  const auto same_labels = [&] {
    return a.labels().size() == b.labels().size() &&
           std::all_of(a.labels().begin(), a.labels().end(), [&](const auto& label) {
             const auto other = b.labels().find(label.first);
             return other != b.labels().end() && other->second == label.second;
           });
  };
  return a.numerics_class() == b.numerics_class() && a.device() == b.device() &&
         a.device_kind() == b.device_kind() && a.device_description() == b.device_description() &&
         a.memory_bytes() == b.memory_bytes() && a.build_version() == b.build_version() &&
         same_labels() &&
         std::equal(a.bases_cached().begin(), a.bases_cached().end(), b.bases_cached().begin(),
                    b.bases_cached().end());
}

}  // namespace

absl::Status Fleet::Accept(const v1::SyncRequest& report, int64_t incarnation_min, absl::Time now) {
  const auto known = workers_.find(report.worker());
  const int64_t highest =
      std::max(incarnation_min, known == workers_.end() ? 0 : known->second.incarnation);
  if (report.incarnation() < highest) {
    return absl::FailedPreconditionError(
        absl::StrCat(report.worker(), " reports as incarnation ", report.incarnation(),
                     ", want at least ", highest, ": a newer process owns the device"));
  }
  Numbers& numbers = numbers_[report.worker()];
  const auto stored = workers_.try_emplace(report.worker()).first;
  worker_by_name_.emplace(stored->first, &stored->second);
  WorkerInfo& worker = stored->second;
  if (report.incarnation() > worker.incarnation) numbers.report_number = 0;
  if (report.report_number() < numbers.report_number) {
    return absl::AbortedError(absl::StrCat(report.worker(), " sent report ", report.report_number(),
                                           " after report ", numbers.report_number));
  }
  numbers.report_number = report.report_number();
  const bool is_new = worker.name.empty();
  if (!is_new) Index(worker, /*in=*/false);
  const bool changed = is_new || !worker.online || worker.incarnation != report.incarnation() ||
                       worker.draining != report.draining() ||
                       !SameEnvironment(worker.environment, report.environment());
  worker.name = report.worker();
  worker.incarnation = report.incarnation();
  if (changed) worker.environment = report.environment();
  worker.pass_times.assign(report.pass_times().begin(), report.pass_times().end());
  worker.draining = report.draining();
  worker.last_seen = now;
  worker.online = true;
  Index(worker, /*in=*/true);
  if (changed) changed_.insert(worker.name);
  class_last_seen_[report.environment().numerics_class()] = now;
  return absl::OkStatus();
}

void Fleet::Index(const WorkerInfo& worker, bool in) {
  LastSeen& seen = worker.online ? online_ : offline_;
  absl::btree_map<int64_t, int64_t>& memory = memory_[worker.environment.device_kind()];
  int64_t& count = memory[worker.environment.memory_bytes()];
  count += in ? 1 : -1;
  if (in) {
    seen.emplace(worker.last_seen, worker.name);
    return;
  }
  seen.erase({worker.last_seen, worker.name});
  if (count == 0) memory.erase(worker.environment.memory_bytes());
  if (memory.empty()) memory_.erase(worker.environment.device_kind());
}

const WorkerInfo* Fleet::Find(absl::string_view worker) const {
  const auto found = worker_by_name_.find(worker);
  return found == worker_by_name_.end() ? nullptr : found->second;
}

int64_t Fleet::MemoryMax(const std::string& device_kind) const {
  int64_t bytes = 0;
  for (const auto& [kind, memory] : memory_) {
    if (!device_kind.empty() && kind != device_kind) continue;
    bytes = std::max(bytes, memory.rbegin()->first);
  }
  return bytes;
}

int64_t Fleet::Revise(absl::string_view worker, const std::string& content) {
  Numbers& numbers = numbers_[std::string(worker)];
  if (numbers.revision == 0 || numbers.content != content) {
    numbers.revision = ++last_revision_;
    numbers.content = content;
  }
  return numbers.revision;
}

void Fleet::Advance(absl::Time now) {
  while (!online_.empty() && online_.begin()->first + online_for_ <= now) {
    WorkerInfo& worker = workers_.at(online_.begin()->second);
    Index(worker, /*in=*/false);
    worker.online = false;
    Index(worker, /*in=*/true);
    changed_.insert(worker.name);
  }
  while (!offline_.empty() && offline_.begin()->first + kForgetAfter < now) {
    const std::string name = offline_.begin()->second;
    Index(workers_.at(name), /*in=*/false);
    numbers_.erase(name);
    worker_by_name_.erase(name);
    workers_.erase(name);
    changed_.insert(name);
  }
  for (auto it = class_last_seen_.begin(); it != class_last_seen_.end();) {
    it = it->second + kForgetAfter < now ? class_last_seen_.erase(it) : std::next(it);
  }
}

absl::Time Fleet::ClassLastSeen(absl::string_view numerics_class) const {
  const auto found = class_last_seen_.find(numerics_class);
  return found == class_last_seen_.end() ? started_at_ : found->second;
}

}  // namespace deltaworks::scheduler
