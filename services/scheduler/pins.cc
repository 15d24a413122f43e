#include "services/scheduler/pins.h"

#include <prometheus/counter.h>

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/resource_name.h"
#include "services/base/log.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kPageSize = 1000;
// Archived jobs that one Start looks at.
constexpr int64_t kArchiveLooksMax = 1'000;

// "tenants/t/jobs/", of all jobs of t.
std::string AllOf(absl::string_view tenant) { return absl::StrCat("tenants/", tenant, "/jobs/"); }

bool IsOfTenant(const std::string& look) { return absl::EndsWith(look, "/"); }

}  // namespace

Pins::Pins(const Options& options, EventLoop& loop, CallPool& pool, scheduler::JobArchive& archive,
           StoreClient& store, std::function<void()> on_done, SchedulerMetrics& metrics)
    : options_(options),
      loop_(loop),
      pool_(pool),
      archive_(archive),
      store_(store),
      on_done_(std::move(on_done)),
      metrics_(metrics) {}

void Pins::Committed(const scheduler::Event& event, const scheduler::State& state) {
  if (event.has_job_deleted()) looks_.insert(event.job());
  const scheduler::JobRecord* record = state.FindJob(event.job());
  if (record == nullptr) return;
  if (event.has_checkpoint_committed()) {
    std::vector<std::string> needed = scheduler::NeededDigests(*record);
    std::vector<std::string>& before = kept_[event.job()];
    // Of several in one commit, those between were never in `needed`.
    before.push_back(event.checkpoint_committed().checkpoint().manifest_digest());
    for (const std::string& digest : before) {
      if (!absl::c_linear_search(needed, digest)) {
        changes_.push_back({.job = event.job(), .digest = digest});
      }
    }
    before = std::move(needed);
  }
  if (event.has_shown() && scheduler::IsFinal(event.shown().state())) {
    kept_.erase(event.job());
    looks_.insert(event.job());
  }
}

void Pins::Reconcile(const scheduler::State& state) {
  // Those with archived jobs alone too: what is pinned was trained.
  for (const std::string& tenant : state.usage().Tenants()) looks_.insert(AllOf(tenant));
  for (const auto& [name, record] : state.jobs()) {
    if (!scheduler::IsFinal(scheduler::StateOf(record))) {
      kept_[name] = scheduler::NeededDigests(record);
    }
    looks_.insert(AllOf(scheduler::TenantOf(name)));
  }
}

void Pins::Start(const scheduler::State& state, absl::Time now) {
  now_ = now;
  if (now >= next_reconcile_) {
    Reconcile(state);
    next_reconcile_ = now + options_.period;
  }
  for (auto seen = seen_.begin(); seen != seen_.end();) {
    seen = Compare(seen->first, state, &seen->second) ? seen_.erase(seen) : std::next(seen);
  }
  if (!seen_.empty()) on_done_();
  if (under_way_ || now_ < not_before_) return;
  while (!changes_.empty()) {
    Change change = std::move(changes_.front());
    changes_.pop_front();
    if (IsWanted(change, state)) return RunChange(std::move(change));
  }
  if (!looks_.empty()) RunLook(*looks_.begin());
}

std::optional<std::vector<std::string>> Pins::NeededBy(const std::string& job,
                                                       const scheduler::State& state) {
  if (const scheduler::JobRecord* record = state.FindJob(job)) {
    return scheduler::NeededDigests(*record);
  }
  const auto archived = archive_.FindArchived(job);
  if (!archived.ok() || !archived->has_value()) return std::nullopt;
  if ((*archived)->record == nullptr) return std::vector<std::string>();  // Deleted.
  return scheduler::NeededDigests(*(*archived)->record);
}

bool Pins::IsWanted(const Change& change, const scheduler::State& state) {
  // Absent also if its creation was never committed.
  const std::optional<std::vector<std::string>> all = NeededBy(change.job, state);
  if (!all.has_value()) return false;
  const bool needed = absl::c_linear_search(*all, change.digest);
  if (change.pin) return needed;
  const scheduler::JobRecord* record = state.FindJob(change.job);
  return !needed && !(change.from_compare && record != nullptr && record->has_current());
}

bool Pins::Compare(const std::string& look, const scheduler::State& state, Seen* seen) {
  Pinned& pinned = seen->pinned;
  if (!IsOfTenant(look)) pinned.try_emplace(look);
  if (IsOfTenant(look) && !seen->archived_only) {
    for (auto it = state.jobs().lower_bound(look);
         it != state.jobs().end() && absl::StartsWith(it->first, look); ++it) {
      const auto found = pinned.find(it->first);
      CompareJob(it->first, scheduler::NeededDigests(it->second),
                 found == pinned.end() ? std::vector<std::string>() : found->second);
      if (found != pinned.end()) pinned.erase(found);
    }
    seen->archived_only = true;
  }
  for (int64_t looks = 0; !pinned.empty() && looks < kArchiveLooksMax; ++looks) {
    const auto& [job, digests] = *pinned.begin();
    if (const auto needed = NeededBy(job, state)) CompareJob(job, *needed, digests);
    pinned.erase(pinned.begin());
  }
  return pinned.empty();
}

void Pins::CompareJob(const std::string& job, const std::vector<std::string>& needed,
                      const std::vector<std::string>& pinned) {
  for (const std::string& digest : pinned) {
    if (absl::c_linear_search(needed, digest)) continue;
    changes_.push_back({.job = job, .digest = digest, .from_compare = true});
  }
  for (const std::string& digest : needed) {
    if (absl::c_linear_search(pinned, digest)) continue;
    changes_.push_back({.job = job, .digest = digest, .pin = true});
  }
}

absl::StatusOr<Pins::Pinned> Pins::List(const std::string& look) const {
  Pinned pinned;
  v1::ListPinsRequest request;
  request.set_parent(absl::StrCat("tenants/", scheduler::TenantOf(look)));
  request.set_owner_prefix(look);
  request.set_page_size(kPageSize);
  for (int64_t page_number = 0; page_number < options_.pages_max; ++page_number) {
    if (stopping_) return absl::CancelledError("the scheduler is stopping");
    DW_ASSIGN_OR_RETURN(const v1::ListPinsResponse page, store_.ListPins(request));
    for (const v1::Pin& pin : page.pins()) {
      if (IsOfTenant(look) || pin.owner() == look) pinned[pin.owner()].push_back(pin.digest());
    }
    if (page.next_page_token().empty()) return pinned;
    request.set_page_token(page.next_page_token());
  }
  return absl::ResourceExhaustedError(absl::StrCat(look, " has more pins than ", options_.pages_max,
                                                   " pages of ", kPageSize, ", want fewer"));
}

void Pins::Failed(absl::string_view what, const std::string& job, const absl::Status& status) {
  metrics_.pin_failures.Increment();
  not_before_ = now_ + options_.retry;
  LogWarning(what, {{"job", job}, {"error", status}});
}

void Pins::RunChange(Change change) {
  under_way_ = true;
  pool_.Run([this, change = std::move(change)] {
    absl::Status status;
    if (change.pin) {
      v1::CreatePinRequest request;
      request.mutable_pin()->set_owner(change.job);
      request.mutable_pin()->set_digest(change.digest);
      status = store_.CreatePin(request).status();
    } else {
      v1::DeletePinRequest request;
      request.set_owner(change.job);
      request.set_digest(change.digest);
      status = store_.DeletePin(request);
    }
    loop_.Post([this, change, status] {
      under_way_ = false;
      ChangeDone(change, status);
      on_done_();
    });
  });
}

void Pins::ChangeDone(const Change& change, const absl::Status& status) {
  if (change.pin && absl::IsNotFound(status)) {
    return Failed("bytes that a job needs are not in the store", change.job, status);
  }
  if (!status.ok()) {
    changes_.push_front(change);
    Failed("a pin was not changed; it is tried again", change.job, status);
  } else if (change.pin) {
    metrics_.pins_made.Increment();
    LogWarning("what a job needs was not pinned; it is now",
               {{"job", change.job}, {"digest", change.digest}});
  } else {
    metrics_.pins_dropped.Increment();
  }
  // A checkpoint with this digest may have been committed during the call, which may have dropped
  // its pin even if it failed. Passed over if not.
  if (!change.pin) {
    changes_.push_front({.job = change.job, .digest = change.digest, .pin = true});
  }
}

void Pins::RunLook(const std::string& look) {
  under_way_ = true;
  pool_.Run([this, look] {
    absl::StatusOr<Pinned> pinned = List(look);
    loop_.Post([this, look, pinned = std::move(pinned)]() mutable {
      under_way_ = false;
      if (pinned.ok()) {
        looks_.erase(look);
        seen_[look] = {.pinned = *std::move(pinned)};
      } else if (absl::IsResourceExhausted(pinned.status())) {
        looks_.erase(look);
        Failed("pins are too many to compare; they are left as they are", look, pinned.status());
      } else {
        Failed("pins were not listed; it is tried again", look, pinned.status());
      }
      on_done_();
    });
  });
}

}  // namespace deltaworks::services
