// Users: people of three tenants, and an operator.
//
// A person's request is sent again, under its request_id, until it is answered; UNAVAILABLE and
// silence are no answer. What a person was told is given to the witness.

#ifndef DELTAWORKS_TESTS_SIMULATION_USERS_H_
#define DELTAWORKS_TESTS_SIMULATION_USERS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/command.h"
#include "tests/simulation/platform.h"

namespace deltaworks::simulation {

// "t0", ...
inline constexpr int kTenants = 3;

class Users {
 public:
  explicit Users(Platform& platform) : platform_(platform) {}

  // Submits `jobs` jobs within `time` from now.
  void SubmitWithin(int jobs, absl::Duration time);
  // Change their minds now and then, until Calm().
  void Fidget();
  // They change nothing before `until`.
  void Rest(absl::Duration until) { rest_until_ = until; }
  // From now on they want all their jobs done: limits go, workers are active, what is paused is
  // resumed.
  void Calm();
  // Requests that wait for an answer.
  int64_t open() const { return open_; }

 private:
  using Reply = std::function<void(const absl::StatusOr<v1::Job>& job)>;

  // Repeats until there is an answer.
  void Ask(const scheduler::Command& command, const Reply& reply);
  // Once; `reply` gets UNAVAILABLE if nothing comes back.
  void Send(const scheduler::Command& command, const Reply& reply);
  void Submit();
  void ChangeSomething();
  void DeleteSomething();
  void SetQuota();
  void ResumePaused();
  v1::Timing SomeTiming();
  std::string NewRequestId();

  bool Chance(double probability) { return platform_.random().Chance(probability); }

  Platform& platform_;
  int64_t open_ = 0;
  int64_t last_request_ = 0;
  int64_t last_job_ = 0;
  absl::Duration rest_until_;
  bool calm_ = false;
  std::vector<std::string> jobs_;  // Accepted.
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_USERS_H_
