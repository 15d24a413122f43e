// SimulatedDisk: what a machine keeps when its process dies, and everything that goes wrong on the
// way there. SQLite's files (sqlite_on_disk.h) and blobs (disk_blob_store.h) are on it.
//
// Every write asks OnWrite() first. From the write at which its process is to crash on, nothing is
// written until the world has started a new process and calls Restart(). Bytes that were not synced
// survive the death of a process, and in part the loss of power.

#ifndef DELTAWORKS_TESTS_SIMULATION_SIMULATED_DISK_H_
#define DELTAWORKS_TESTS_SIMULATION_SIMULATED_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/simulation/fault_counts.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/seeded_random.h"
#include "tests/simulation/timeline.h"

namespace deltaworks::simulation {

// One file: as its process sees it, and as it is after a loss of power.
class DiskFile {
 public:
  absl::string_view bytes() const { return bytes_; }
  void Write(int64_t offset, absl::string_view data);
  void Truncate(int64_t size);
  void Sync();
  // Each write since the last Sync() is there, in part or not at all.
  void LosePower(SeededRandom& random);

 private:
  struct Change {
    int64_t offset = 0;
    std::string data;
    bool truncates = false;
  };
  static void Apply(const Change& change, std::string& bytes);

  std::string bytes_;
  std::string synced_;
  std::vector<Change> unsynced_;
};

class SimulatedDisk {
 public:
  struct Rates {
    double fails = 0;    // Nothing is written, and that is said.
    double unknown = 0;  // It is written, and an error is said.
    double full = 0;
    double slow = 0;  // Its machine waits for seconds.
  };
  enum class Fate { kWritten, kFails, kWrittenFails, kFull };

  // `name` ends with "/"; no other disk of this thread has it now.
  SimulatedDisk(const std::string& name, Timeline& timeline, Machine& machine, SeededRandom& random,
                FaultCounts& counts);
  ~SimulatedDisk();

  void SetRates(const Rates& rates) { rates_ = rates; }
  // The process dies at its `writes`-th write from now, 1 the next.
  void CrashAt(int64_t writes, std::function<void()> on_crash);
  // From the `first`-th write from now on `count` fail; the process goes on.
  void FailWrites(int64_t first, int64_t count) {
    fail_in_ = first;
    fail_count_ = count;
  }
  // Its process is dead: nothing is written any more.
  void Crash() { crashed_ = true; }
  // A new process begins.
  void Restart(bool lost_power);

  // What becomes of the write that is about to be made.
  Fate OnWrite();

  // Files, by path; paths begin with name().
  std::map<std::string, DiskFile>& files() { return files_; }
  const std::string& name() const { return name_; }
  static SimulatedDisk* Find(absl::string_view path);

  SeededRandom& random() { return random_; }

 private:
  Timeline& timeline_;
  Machine& machine_;
  SeededRandom& random_;
  FaultCounts& counts_;
  const std::string name_;
  Rates rates_;
  int64_t crash_in_ = 0;  // 0: not planned.
  int64_t fail_in_ = 0;
  int64_t fail_count_ = 0;
  bool crashed_ = false;
  std::function<void()> on_crash_;
  std::map<std::string, DiskFile> files_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_SIMULATED_DISK_H_
