#include "tests/drill/faults.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "services/base/service_exit.h"
#include "tests/e2e/await.h"

namespace deltaworks::drill {
namespace {

using e2e::Link;

constexpr const char* kKindNames[] = {"killed", "stopped", "starved", "disconnected"};

// A process that could not start is tried again after this.
constexpr absl::Duration kStartAgainAfter = absl::Milliseconds(500);
// A start that met a full disk may end so long after there is room again.
constexpr absl::Duration kStartMax = absl::Seconds(10);
// Some of what is written to a full disk may still fit: a part of a write, or some writes.
constexpr int64_t kBytesThatFitMax = 20'000;

}  // namespace

Faults::Faults(e2e::Platform& platform, const Options& options)
    : platform_(platform),
      options_(options),
      random_(options.seed),
      log_(options.log_path),
      next_(absl::Now() + Uniform(absl::ZeroDuration(), 2 * options.mean_gap)) {
  for (e2e::Service* service : platform.All()) {
    victims_.push_back({.service = service, .was_starved = absl::InfinitePast()});
  }
}

absl::Duration Faults::Uniform(absl::Duration least, absl::Duration most) {
  return least + (most - least) * std::uniform_real_distribution<double>(0, 1)(random_);
}

void Faults::Note(const std::string& what) {
  log_ << absl::FormatTime("%H:%M:%E3S ", absl::Now(), absl::UTCTimeZone()) << what << std::endl;
}

void Faults::Turn() {
  const absl::Time now = absl::Now();
  for (Victim& victim : victims_) {
    for (const Kind kind : {kKilled, kStopped, kStarved, kDisconnected}) {
      if (Suffers(victim, kind) && now >= *victim.until[kind]) Recover(victim, kind, now);
    }
    if (!Suffers(victim, kKilled) && !victim.service->Runs()) LookAfter(victim, now);
  }
  if (now < next_) return;
  if (const std::optional<Choice> choice = Choose()) {
    Begin(*choice, now);
    next_ += Uniform(absl::ZeroDuration(), 2 * options_.mean_gap);
  }
}

bool Faults::MayBegin(const Choice& choice) const {
  const Victim& victim = victims_[choice.victim];
  if (Suffers(victim, choice.kind)) return false;
  // Signals need a process.
  return choice.kind == kStarved || choice.kind == kDisconnected || victim.service->Runs();
}

std::optional<Faults::Choice> Faults::Choose() {
  if (deck_.empty()) {
    for (size_t victim = 0; victim < victims_.size(); ++victim) {
      for (const Kind kind : {kKilled, kStopped, kStarved, kDisconnected}) {
        deck_.push_back({kind, victim});
      }
    }
    std::shuffle(deck_.begin(), deck_.end(), random_);
  }
  const auto found = std::find_if(deck_.begin(), deck_.end(),
                                  [this](const Choice& choice) { return MayBegin(choice); });
  if (found == deck_.end()) return std::nullopt;
  const Choice choice = *found;
  deck_.erase(found);
  return choice;
}

void Faults::Begin(const Choice& choice, absl::Time now) {
  Victim& victim = victims_[choice.victim];
  absl::Duration lasts = Uniform(absl::Milliseconds(100), 3 * options_.lease);
  std::string how;
  switch (choice.kind) {
    case kKilled:
      victim.service->Kill();
      // It does not come back from that by SIGCONT.
      victim.until[kStopped].reset();
      lasts = Uniform(absl::ZeroDuration(), absl::Seconds(1));
      break;
    case kStopped:
      victim.service->Signal(SIGSTOP);
      break;
    case kStarved:
      platform_.DiskOf(*victim.service).TakeRoom();
      break;
    case kDisconnected: {
      const int way = std::uniform_int_distribution<int>(0, 2)(random_);
      how = way == 0 ? " (cut)" : way == 1 ? " (refused)" : " (silent)";
      if (way == 0) lasts = absl::ZeroDuration();
      for (Link* link : platform_.LinksOf(*victim.service)) {
        if (way == 0) link->Cut();
        if (way == 1) link->Set(Link::State::kRefuses);
        if (way == 2) link->Set(Link::State::kSilent);
      }
      break;
    }
    case kKinds:
      LOG(FATAL) << "no such kind";
  }
  victim.until[choice.kind] = now + lasts;
  ++victim.count[choice.kind];
  ++count_;
  Note(absl::StrCat(victim.service->name(), " is ", kKindNames[choice.kind], how, " for ",
                    absl::FormatDuration(absl::Trunc(lasts, absl::Milliseconds(1)))));
}

void Faults::Recover(Victim& victim, Kind kind, absl::Time now) {
  victim.until[kind].reset();
  switch (kind) {
    case kKilled:
      StartAgain(victim);
      break;
    case kStopped:
      victim.service->Signal(SIGCONT);
      break;
    case kStarved:
      platform_.DiskOf(*victim.service).MakeRoom();
      victim.was_starved = now;
      break;
    case kDisconnected:
      Reconnect(victim);
      break;
    case kKinds:
      LOG(FATAL) << "no such kind";
  }
}

// But for the links whose other end is still disconnected.
void Faults::Reconnect(const Victim& victim) {
  std::vector<Link*> still;
  for (const Victim& other : victims_) {
    if (!Suffers(other, kDisconnected)) continue;
    for (Link* link : platform_.LinksOf(*other.service)) still.push_back(link);
  }
  for (Link* link : platform_.LinksOf(*victim.service)) {
    if (std::find(still.begin(), still.end(), link) == still.end()) {
      link->Set(Link::State::kPasses);
    }
  }
}

void Faults::StartAgain(Victim& victim) {
  const int64_t fits = std::uniform_int_distribution<int64_t>(0, kBytesThatFitMax)(random_);
  victim.service->SetEnvironment(platform_.DiskOf(*victim.service).Environment(fits));
  // Of a worker; others have none.
  if (random_() % 2 == 0) std::filesystem::remove_all(platform_.CacheOf(victim.service->name()));
  victim.service->Begin();
}

void Faults::LookAfter(Victim& victim, absl::Time now) {
  const int exit_code = victim.service->ExitCode().value();
  const bool starved = Suffers(victim, kStarved) || now - victim.was_starved < kStartMax;
  const bool port_taken =
      absl::StrContains(victim.service->LogTail(4), "in use by another process");
  const std::string what =
      absl::StrCat(victim.service->name(), " ended by itself with code ", exit_code);
  Note(what);
  if (exit_code == services::kExitCannotStart && (starved || port_taken)) {
    ++failed_starts_;
  } else {
    surprises_.push_back(absl::StrCat(what, ":\n", victim.service->LogTail(8)));
  }
  victim.until[kStopped].reset();
  victim.until[kKilled] = now + kStartAgainAfter;
}

bool Faults::Mend() {
  const absl::Time now = absl::Now();
  for (Victim& victim : victims_) {
    for (const Kind kind : {kStarved, kDisconnected, kStopped, kKilled}) {
      if (Suffers(victim, kind)) Recover(victim, kind, now);
    }
  }
  next_ = absl::InfiniteFuture();
  // Some may still be about to fail their start.
  return e2e::Await(e2e::kPatience, [this] {
    Turn();
    return std::all_of(victims_.begin(), victims_.end(),
                       [](const Victim& victim) { return victim.service->Answers(); });
  });
}

std::string Faults::Table() const {
  std::string table = absl::StrFormat("%-16s", "");
  std::array<int64_t, kKinds> sums = {};
  for (const char* name : kKindNames) absl::StrAppendFormat(&table, "%14s", name);
  for (const Victim& victim : victims_) {
    absl::StrAppendFormat(&table, "\n%-16s", victim.service->name());
    for (size_t kind = 0; kind < kKinds; ++kind) {
      absl::StrAppendFormat(&table, "%14d", victim.count[kind]);
      sums[kind] += victim.count[kind];
    }
  }
  absl::StrAppendFormat(&table, "\n%-16s", "all");
  for (const int64_t sum : sums) absl::StrAppendFormat(&table, "%14d", sum);
  return table;
}

}  // namespace deltaworks::drill
