#include "services/scheduler/pins.h"

#include <prometheus/counter.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/resource_name.h"
#include "services/base/log.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

bool Contains(const std::vector<std::string>& items, const std::string& item) {
  return std::find(items.begin(), items.end(), item) != items.end();
}

constexpr int kPageSize = 1000;

// "tenants/t/jobs/", of all jobs of t.
std::string AllOf(absl::string_view tenant) { return absl::StrCat("tenants/", tenant, "/jobs/"); }

bool IsOfTenant(const std::string& look) { return absl::EndsWith(look, "/"); }

}  // namespace

Pins::Pins(const Options& options, EventLoop& loop, CallPool& pool, StoreClient& store,
           SchedulerMetrics& metrics)
    : options_(options), loop_(loop), pool_(pool), store_(store), metrics_(metrics) {}

void Pins::Committed(const scheduler::Event& event, const scheduler::State& state) {
  const scheduler::JobRecord* record = state.FindJob(event.job());
  if (record == nullptr) return;
  if (event.has_checkpoint_committed()) {
    std::vector<std::string> needed = scheduler::NeededDigests(*record);
    std::vector<std::string>& before = kept_[event.job()];
    // Of several in one commit, those between were never in `needed`.
    before.push_back(event.checkpoint_committed().checkpoint().manifest_digest());
    for (const std::string& digest : before) {
      if (!Contains(needed, digest)) drops_.push_back({event.job(), digest});
    }
    before = std::move(needed);
  }
  if (event.has_shown() && scheduler::IsFinal(event.shown().state())) {
    kept_.erase(event.job());
    looks_.insert(event.job());
  }
}

void Pins::Reconcile(const scheduler::State& state) {
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
  for (const auto& [look, pinned] : std::exchange(seen_, {})) Compare(look, pinned, state);
  Next();
}

void Pins::Next() {
  if (under_way_ || now_ < not_before_) return;
  if (!drops_.empty()) {
    Drop drop = std::move(drops_.front());
    drops_.pop_front();
    RunDrop(std::move(drop));
  } else if (!looks_.empty()) {
    RunLook(*looks_.begin());
  }
}

void Pins::Compare(const std::string& look, const Pinned& pinned, const scheduler::State& state) {
  const auto compare = [&](const scheduler::JobRecord& record) {
    const auto found = pinned.find(record.job().name());
    CompareJob(record, found == pinned.end() ? std::vector<std::string>() : found->second);
  };
  if (!IsOfTenant(look)) {
    if (const scheduler::JobRecord* record = state.FindJob(look)) compare(*record);
    return;
  }
  for (auto it = state.jobs().lower_bound(look);
       it != state.jobs().end() && absl::StartsWith(it->first, look); ++it) {
    compare(it->second);
  }
}

void Pins::CompareJob(const scheduler::JobRecord& record, const std::vector<std::string>& pinned) {
  // A worker may pin at any time what it reports later.
  if (record.has_current()) return;
  const std::string& job = record.job().name();
  const std::vector<std::string> needed = scheduler::NeededDigests(record);
  for (const std::string& digest : pinned) {
    if (!Contains(needed, digest)) drops_.push_back({job, digest});
  }
  for (const std::string& digest : needed) {
    if (!Contains(pinned, digest)) Repin(job, digest);
  }
}

absl::StatusOr<Pins::Pinned> Pins::List(StoreClient& store, const std::string& look) {
  Pinned pinned;
  v1::ListPinsRequest request;
  request.set_parent(absl::StrCat("tenants/", scheduler::TenantOf(look)));
  request.set_owner_prefix(look);
  request.set_page_size(kPageSize);
  do {
    DW_ASSIGN_OR_RETURN(const v1::ListPinsResponse page, store.ListPins(request));
    for (const v1::Pin& pin : page.pins()) {
      if (IsOfTenant(look) || pin.owner() == look) pinned[pin.owner()].push_back(pin.digest());
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return pinned;
}

void Pins::Failed(absl::string_view what, const std::string& job, const absl::Status& status) {
  metrics_.pin_failures.Increment();
  not_before_ = now_ + options_.retry;
  LogWarning(what, {{"job", job}, {"error", status}});
}

void Pins::RunDrop(Drop drop) {
  under_way_ = true;
  pool_.Run([this, drop = std::move(drop)] {
    v1::DeletePinRequest request;
    request.set_owner(drop.job);
    request.set_digest(drop.digest);
    const absl::Status status = store_.DeletePin(request);
    loop_.Post([this, drop, status] {
      under_way_ = false;
      if (status.ok()) {
        metrics_.pins_dropped.Increment();
      } else {
        drops_.push_front(drop);
        Failed("a pin was not dropped; it is tried again", drop.job, status);
      }
      Next();
    });
  });
}

void Pins::RunLook(const std::string& look) {
  under_way_ = true;
  pool_.Run([this, look] {
    absl::StatusOr<Pinned> pinned = List(store_, look);
    loop_.Post([this, look, pinned = std::move(pinned)]() mutable {
      under_way_ = false;
      if (pinned.ok()) {
        looks_.erase(look);
        seen_[look] = *std::move(pinned);
      } else {
        Failed("pins were not listed; it is tried again", look, pinned.status());
      }
      Next();
    });
  });
}

void Pins::Repin(const std::string& job, const std::string& digest) {
  pool_.Run([this, job, digest] {
    v1::CreatePinRequest request;
    request.mutable_pin()->set_owner(job);
    request.mutable_pin()->set_digest(digest);
    const absl::Status status = store_.CreatePin(request).status();
    loop_.Post([this, job, digest, status] {
      LogWarning("a checkpoint that is kept was not pinned",
                 {{"job", job}, {"digest", digest}, {"error", status}});
      (status.ok() ? metrics_.pins_made : metrics_.pin_failures).Increment();
    });
  });
}

}  // namespace deltaworks::services
