#include "scheduler/fleet.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace deltaworks::scheduler {
namespace {

constexpr absl::Duration kForgetAfter = absl::Hours(24);

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
  WorkerInfo& worker = workers_[report.worker()];
  if (report.incarnation() > worker.incarnation) numbers.report_number = 0;
  if (report.report_number() < numbers.report_number) {
    return absl::AbortedError(absl::StrCat(report.worker(), " sent report ", report.report_number(),
                                           " after report ", numbers.report_number));
  }
  numbers.report_number = report.report_number();
  worker.name = report.worker();
  worker.incarnation = report.incarnation();
  worker.environment = report.environment();
  worker.draining = report.draining();
  worker.last_seen = now;
  worker.online = true;
  class_last_seen_[report.environment().numerics_class()] = now;
  return absl::OkStatus();
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
  for (auto it = workers_.begin(); it != workers_.end();) {
    if (it->second.last_seen + kForgetAfter < now) {
      numbers_.erase(it->first);
      it = workers_.erase(it);
    } else {
      it->second.online = it->second.last_seen + online_for_ > now;
      ++it;
    }
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
