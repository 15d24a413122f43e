// Customer: a tenant that always wants some jobs done, now more and now fewer. It submits them one
// after another, each with a request_id that it repeats until it has an answer, whatever breaks
// meanwhile, and looks at them until they have ended.
//
// It owns a thread, which ends once it was told to stop and every job has ended. Thread-safe.

#ifndef DELTAWORKS_TESTS_DRILL_CUSTOMER_H_
#define DELTAWORKS_TESTS_DRILL_CUSTOMER_H_

#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/platform.h"
#include "trainer/base/mutex.h"

namespace deltaworks::drill {

struct AcceptedJob {
  std::string tenant;
  std::string name;
  int spec = 0;
  bool ended = false;
};

class Customer {
 public:
  // `platform` must outlive it. Has about `jobs_at_once` jobs that are not final.
  Customer(e2e::Platform& platform, std::string tenant, int jobs_at_once, uint32_t seed);
  ~Customer();

  // No more jobs. A request that has no answer yet is still repeated.
  void Stop();

  std::vector<AcceptedJob> jobs() const;
  // Everything submitted was answered, and all that was accepted has ended.
  bool idle() const;
  // Requests that were sent again because the answer was an error or none.
  int64_t repeats() const;
  // Answers that no fault excuses: a refusal, a job that is not there.
  std::vector<std::string> complaints() const;

 private:
  void Run();
  bool Wants(int under_way);
  void SubmitOne();
  // Looks whether jobs have ended; returns how many have not.
  int Look();
  bool stopping() const;
  bool gave_up() const;
  void Complain(const std::string& what);

  e2e::Platform& platform_;
  const std::string tenant_;
  const int jobs_at_once_;
  std::mt19937 random_;  // The thread's.
  mutable Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool gave_up_ ABSL_GUARDED_BY(mutex_) = false;
  bool idle_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t repeats_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<AcceptedJob> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> complaints_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace deltaworks::drill

#endif  // DELTAWORKS_TESTS_DRILL_CUSTOMER_H_
