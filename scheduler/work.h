// Work: how much training is left, in numbers that can be added up and taken away again exactly.
// Plain data and pure functions.

#ifndef DELTAWORKS_SCHEDULER_WORK_H_
#define DELTAWORKS_SCHEDULER_WORK_H_

#include <cstdint>
#include <map>

#include "absl/time/time.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

struct Work {
  int64_t passes = 0;
  int64_t tokens = 0;
  int64_t gigaflops = 0;  // Rounded up by job.

  Work& operator+=(const Work& other);
  Work& operator-=(const Work& other);
  bool operator==(const Work&) const = default;
};

// What is not in the job's last checkpoint or report; nothing before it is validated. Each number
// is at most 1e12, so that a million jobs can be added up.
Work RemainingWork(const JobRecord& record);

// Jobs and their work by rank, summed up so that what is ahead of a rank is found without counting.
// To the second: jobs in the second of a rank are neither ahead nor behind.
class RankSums {
 public:
  struct Sum {
    int64_t jobs = 0;
    Work work;
  };

  void Add(absl::Time rank, const Work& work);
  // As it was added.
  void Remove(absl::Time rank, const Work& work);

  const Sum& total() const { return total_; }
  // Of all ranks in seconds before that of `rank`.
  Sum Before(absl::Time rank) const;
  // The same, with that second.
  Sum Through(absl::Time rank) const;

 private:
  // By begin, in Unix seconds.
  using Sums = std::map<int64_t, Sum>;

  void Change(absl::Time rank, const Work& work, int sign);
  // Of ranks before `second`.
  Sum UpTo(int64_t second) const;

  Sum total_;
  Sums hours_;
  Sums minutes_;
  Sums seconds_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_WORK_H_
