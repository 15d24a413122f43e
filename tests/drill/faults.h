// Faults: what hurts a platform in a drill. At random moments one process of it, of any kind, is
//
//   killed         SIGKILL; started again after up to a second, a worker at times without its cache
//   stopped        SIGSTOP, and SIGCONT after up to three leases
//   starved        its disk is full for some seconds; some bytes may still fit
//   disconnected   its links are cut once, hang up for some seconds, or are silent for some
//
// as often the one kind as the other, and all processes alike: every combination once in random
// order, then again. Combinations last, so they meet. The moments come from a seed; what they fall
// on does not repeat, and must not matter.
//
// It stands in for a supervisor too: a process that could not start, because its disk was full or
// its port taken, is started again; one that ends in any other way is a surprise. From the thread
// that made the platform.

#ifndef DELTAWORKS_TESTS_DRILL_FAULTS_H_
#define DELTAWORKS_TESTS_DRILL_FAULTS_H_

#include <array>
#include <cstdint>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/e2e/platform.h"

namespace deltaworks::drill {

class Faults {
 public:
  struct Options {
    uint32_t seed = 1;
    // Between two of them, which are up to twice as far apart.
    absl::Duration mean_gap = absl::Seconds(3);
    absl::Duration lease = absl::Seconds(2);
    // Gets a line for each.
    std::string log_path;
  };

  // `platform`, with links and disks, must outlive it.
  Faults(e2e::Platform& platform, const Options& options);

  // Does what is due by now; to be called again and again.
  void Turn();
  // Ends all that is under way, and begins nothing any more. True once every process answers, false
  // if one does not within a minute.
  bool Mend();

  int64_t count() const { return count_; }
  // How many of each kind each process had, as lines.
  std::string Table() const;
  // Starts that failed because of a full disk or a taken port.
  int64_t failed_starts() const { return failed_starts_; }
  // Processes that ended though nobody killed them.
  const std::vector<std::string>& surprises() const { return surprises_; }

 private:
  enum Kind { kKilled, kStopped, kStarved, kDisconnected, kKinds };
  struct Victim {
    e2e::Service* service = nullptr;
    // When it recovers from each; absent: it does not have it.
    std::array<std::optional<absl::Time>, kKinds> until;
    std::array<int64_t, kKinds> count = {};
    absl::Time was_starved;
  };
  struct Choice {
    Kind kind;
    size_t victim;
  };

  bool Suffers(const Victim& victim, Kind kind) const { return victim.until[kind].has_value(); }
  bool MayBegin(const Choice& choice) const;
  std::optional<Choice> Choose();
  void Begin(const Choice& choice, absl::Time now);
  void Recover(Victim& victim, Kind kind, absl::Time now);
  void Reconnect(const Victim& victim);
  void StartAgain(Victim& victim);
  // Of a process that should run.
  void LookAfter(Victim& victim, absl::Time now);

  absl::Duration Uniform(absl::Duration least, absl::Duration most);
  void Note(const std::string& what);

  e2e::Platform& platform_;
  const Options options_;
  std::mt19937 random_;
  std::ofstream log_;
  std::vector<Victim> victims_;
  std::vector<Choice> deck_;
  absl::Time next_;
  int64_t count_ = 0;
  int64_t failed_starts_ = 0;
  std::vector<std::string> surprises_;
};

}  // namespace deltaworks::drill

#endif  // DELTAWORKS_TESTS_DRILL_FAULTS_H_
