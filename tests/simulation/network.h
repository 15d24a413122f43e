// Network: carries messages between processes, late, twice, or not at all.
//
// Each pair of addresses has a wire of its own in each direction, which can be cut for a while.
// A call (Call) is two messages and a wait: whatever goes wrong on the way, its caller gets
// UNAVAILABLE, and does not know whether it was carried out.

#ifndef DELTAWORKS_TESTS_SIMULATION_NETWORK_H_
#define DELTAWORKS_TESTS_SIMULATION_NETWORK_H_

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/simulation/fault_counts.h"
#include "tests/simulation/process.h"
#include "tests/simulation/seeded_random.h"
#include "tests/simulation/timeline.h"

namespace deltaworks::simulation {

// Workers follow.
enum Address { kUsers = 0, kScheduler, kRegistry, kStore, kFirstWorker };

class Network {
 public:
  struct Rates {
    double loss = 0;
    double late = 0;  // By up to a minute; others overtake it.
    double repeat = 0;
  };

  Network(Timeline& timeline, SeededRandom& random, FaultCounts& counts, int workers);

  void SetRates(const Rates& rates) { rates_ = rates; }
  void Cut(int from, int to, absl::Duration until);
  // Calls `deliver` later, perhaps never or twice.
  void Send(int from, int to, std::function<void()> deliver);
  // Messages carried.
  int64_t sent() const { return sent_; }

  Timeline& timeline() { return timeline_; }
  SeededRandom& random() { return random_; }

 private:
  absl::Duration& CutUntil(int from, int to) { return cut_until_[from * addresses_ + to]; }

  Timeline& timeline_;
  SeededRandom& random_;
  FaultCounts& counts_;
  const int addresses_;
  Rates rates_;
  std::vector<absl::Duration> cut_until_;
  int64_t sent_ = 0;
};

// A process that answers calls.
class ServerProcess : public Process {
 public:
  using Process::Process;
  // Carries out one call, on the loop or a fiber of this process.
  virtual void Serve(absl::AnyInvocable<void()> call) = 0;
};

// Where a server is, while there is one.
template <typename Server>
using Slot = std::unique_ptr<Server>;

// On a fiber of `caller`: has the server in `slot` carry out `serve`.
template <typename Response, typename Server>
absl::StatusOr<Response> Call(Process& caller, Network& network, int from, int to,
                              Slot<Server>& slot,
                              std::function<absl::StatusOr<Response>(Server&)> serve) {
  constexpr absl::Duration kTimeout = absl::Seconds(5);
  // Messages are copied about as little as on a real wire.
  struct Pending {
    std::function<absl::StatusOr<Response>(Server&)> serve;
    std::optional<absl::StatusOr<Response>> answer;
    std::shared_ptr<ProcessLoop> loop;
    Fiber* fiber = nullptr;
    void Finish(absl::StatusOr<Response> with) {
      if (answer.has_value()) return;
      answer.emplace(std::move(with));
      Process::Wake(*loop, fiber);
    }
  };
  const absl::Status gone = absl::UnavailableError("simulated: no answer");
  if (caller.dead()) return gone;
  auto pending = std::make_shared<Pending>();
  pending->loop = caller.shared_loop();
  pending->fiber = Fiber::Current();
  pending->serve = std::move(serve);
  network.Send(from, to, [&network, &slot, from, to, pending, gone] {
    if (slot == nullptr || slot->dead()) {
      network.Send(to, from, [pending, gone] { pending->Finish(gone); });
      return;
    }
    slot->Serve([&network, server = slot.get(), from, to, pending, gone] {
      absl::StatusOr<Response> answer = pending->serve(*server);
      if (server->dead()) answer = gone;
      network.Send(to, from, [pending, answer = std::move(answer)] { pending->Finish(answer); });
    });
  });
  network.timeline().After(kTimeout, [pending, gone] { pending->Finish(gone); });
  caller.Wait();
  return pending->answer.has_value() ? *std::move(pending->answer) : gone;
}

// The same again, as the clients of services/clients do, while it is UNAVAILABLE.
template <typename Response, typename Server>
absl::StatusOr<Response> CallWithRepeats(
    Process& caller, Network& network, int from, int to, Slot<Server>& slot,
    const std::function<absl::StatusOr<Response>(Server&)>& serve) {
  constexpr int kTries = 3;
  for (int i = 1;; ++i) {
    absl::StatusOr<Response> answer = Call<Response>(caller, network, from, to, slot, serve);
    if (!absl::IsUnavailable(answer.status()) || i == kTries || caller.dead()) return answer;
    caller.Sleep(absl::Milliseconds(200) * i);
  }
}

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_NETWORK_H_
