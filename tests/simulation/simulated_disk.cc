#include "tests/simulation/simulated_disk.h"

#include <algorithm>
#include <utility>

#include "absl/container/btree_map.h"
#include "glog/logging.h"

namespace deltaworks::simulation {
namespace {

// Disks of this thread's worlds, by name.
thread_local absl::btree_map<std::string, SimulatedDisk*> disks;

}  // namespace

void DiskFile::Apply(const Change& change, std::string& bytes) {
  if (change.truncates) {
    bytes.resize(static_cast<size_t>(change.offset));
    return;
  }
  const size_t end = static_cast<size_t>(change.offset) + change.data.size();
  if (bytes.size() < end) bytes.resize(end);
  bytes.replace(static_cast<size_t>(change.offset), change.data.size(), change.data);
}

void DiskFile::Write(int64_t offset, absl::string_view data) {
  unsynced_.push_back({offset, std::string(data), false});
  Apply(unsynced_.back(), bytes_);
}

void DiskFile::Truncate(int64_t size) {
  unsynced_.push_back({size, "", true});
  Apply(unsynced_.back(), bytes_);
}

void DiskFile::Sync() {
  for (const Change& change : unsynced_) Apply(change, synced_);
  unsynced_.clear();
}

void DiskFile::LosePower(SeededRandom& random) {
  for (Change& change : unsynced_) {
    if (random.Chance(0.5)) continue;
    if (!change.truncates && random.Chance(0.3)) {
      change.data.resize(
          static_cast<size_t>(random.Below(1 + static_cast<int64_t>(change.data.size()))));
    }
    Apply(change, synced_);
  }
  unsynced_.clear();
  bytes_ = synced_;
}

SimulatedDisk::SimulatedDisk(const std::string& name, Timeline& timeline, Machine& machine,
                             SeededRandom& random, FaultCounts& counts)
    : timeline_(timeline), machine_(machine), random_(random), counts_(counts), name_(name) {
  CHECK(disks.emplace(name_, this).second) << name_;
}

SimulatedDisk::~SimulatedDisk() { disks.erase(name_); }

SimulatedDisk* SimulatedDisk::Find(absl::string_view path) {
  const auto found = disks.find(std::string(path.substr(0, path.find('/') + 1)));
  return found == disks.end() ? nullptr : found->second;
}

void SimulatedDisk::CrashAt(int64_t writes, std::function<void()> on_crash) {
  crash_in_ = writes;
  on_crash_ = std::move(on_crash);
}

void SimulatedDisk::Restart(bool lost_power) {
  crashed_ = false;
  crash_in_ = 0;
  on_crash_ = nullptr;
  if (!lost_power) return;
  for (auto& [path, file] : files_) file.LosePower(random_);
}

SimulatedDisk::Fate SimulatedDisk::OnWrite() {
  if (crashed_) return Fate::kFails;
  if (crash_in_ > 0 && --crash_in_ == 0) {
    crashed_ = true;
    counts_.Count("crash at a write");
    if (on_crash_ != nullptr) std::exchange(on_crash_, nullptr)();
    return random_.Chance(0.5) ? Fate::kFails : Fate::kWrittenFails;
  }
  if (fail_count_ > 0 && --fail_in_ <= 0) {
    --fail_count_;
    return Fate::kFails;
  }
  if (random_.Chance(rates_.slow)) {
    counts_.Count("slow disk");
    machine_.StopUntil(timeline_.now() + random_.Between(absl::Seconds(1), absl::Seconds(10)));
  }
  if (random_.Chance(rates_.fails)) {
    counts_.Count("failed write");
    return Fate::kFails;
  }
  if (random_.Chance(rates_.unknown)) {
    counts_.Count("unknown outcome of a write");
    return Fate::kWrittenFails;
  }
  if (random_.Chance(rates_.full)) {
    counts_.Count("full disk");
    return Fate::kFull;
  }
  return Fate::kWritten;
}

}  // namespace deltaworks::simulation
