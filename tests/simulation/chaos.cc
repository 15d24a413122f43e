#include "tests/simulation/chaos.h"

#include <algorithm>

namespace deltaworks::simulation {
namespace {

constexpr Address kServers[] = {kScheduler, kRegistry, kStore};

}  // namespace

void Chaos::Start() {
  platform_.network().SetRates({.loss = 0.01, .late = 0.01, .repeat = 0.01});
  platform_.disk(kScheduler).SetRates({.fails = 3e-5, .unknown = 3e-5, .full = 3e-5, .slow = 3e-5});
  platform_.disk(kRegistry).SetRates({.fails = 1e-4, .unknown = 1e-4, .full = 1e-4, .slow = 1e-4});
  platform_.disk(kStore).SetRates({.fails = 1e-4, .unknown = 1e-4, .full = 1e-4, .slow = 5e-5});
  Tick();
}

void Chaos::Stop() {
  stopped_ = true;
  platform_.network().SetRates({});
  for (const Address server : kServers) {
    platform_.disk(server).SetRates({});
    platform_.disk(server).CrashAt(0, nullptr);
    platform_.disk(server).FailWrites(0, 0);
  }
}

void Chaos::Tick() {
  if (stopped_) return;
  DisturbServers();
  DisturbWorkers();
  if (Chance(0.03)) JumpSomeClock();
  Slot<StoreProcess>& store = platform_.store();
  if (Chance(0.02) && store != nullptr && !store->dead()) store->Collect();
  const absl::Duration next = platform_.timeline().now() + absl::Seconds(1);
  platform_.timeline().At(std::max(next, rests_until_), [this] { Tick(); });
}

void Chaos::DisturbServers() {
  for (const Address server : kServers) {
    if (Chance(0.01)) DisturbServer(server);
  }
}

void Chaos::DisturbServer(Address server) {
  SeededRandom& random = platform_.random();
  switch (random.Below(5)) {
    case 0:
      platform_.counts().Count("kill of a server");
      return platform_.Kill(server);
    case 1:
    case 2:
      // Counted when it happens.
      return platform_.disk(server).CrashAt(1 + random.Below(100),
                                            [this, server] { platform_.Kill(server); });
    case 3:
      // A disk that is out of order; often its process does not survive it for long.
      platform_.counts().Count("disk out of order");
      platform_.disk(server).FailWrites(1 + random.Below(100), 1 + random.Below(5));
      if (Chance(0.5)) return;
      return platform_.timeline().After(Between(1, 5), [this, server] {
        if (!stopped_) platform_.Kill(server);
      });
    default:
      platform_.counts().Count("server stopped for a while");
      platform_.machine(server).StopUntil(platform_.timeline().now() + Between(1, 15));
  }
}

void Chaos::DisturbWorkers() {
  SeededRandom& random = platform_.random();
  const auto someone = [&] { return static_cast<int>(random.Below(platform_.workers())); };
  // Each worker has its share of trouble, however many there are.
  const auto happens = [&](double of_100_workers) {
    return Chance(of_100_workers * platform_.workers() / 100);
  };
  if (happens(0.2)) {
    platform_.counts().Count("kill of a worker");
    platform_.KillWorker(someone());
  }
  if (happens(0.2)) {
    if (WorkerProcess* const worker = platform_.worker(someone())) {
      worker->DieAtCall(1 + random.Below(10));
    }
  }
  if (happens(0.3)) {
    platform_.counts().Count("worker stopped for a while");
    platform_.worker_machine(someone()).StopUntil(platform_.timeline().now() + Between(1, 60));
  }
  if (happens(0.3)) CutWorker(someone());
  if (happens(0.05)) Flap(someone(), 10);
  if (happens(0.03)) {
    if (WorkerProcess* const worker = platform_.worker(someone())) {
      platform_.counts().Count("drain of a worker");
      worker->Drain();
    }
  }
  if (happens(0.05)) {
    if (WorkerProcess* const worker = platform_.worker(someone())) worker->channel().Break();
  }
  if (happens(0.1)) {
    if (WorkerProcess* const worker = platform_.worker(someone())) worker->channel().SetLies(0.3);
  }
}

void Chaos::CutWorker(int index) {
  platform_.counts().Count("partition of a worker");
  const absl::Duration until = platform_.timeline().now() + Between(1, 40);
  const int address = kFirstWorker + index;
  const int64_t which = platform_.random().Below(5);
  if (which != 0) platform_.network().Cut(address, kScheduler, until);
  if (which != 1) platform_.network().Cut(kScheduler, address, until);
  if (which < 3) platform_.network().Cut(address, kStore, until);
}

void Chaos::Flap(int index, int times) {
  if (times == 0 || stopped_) return;
  platform_.counts().Count("flap of a worker");
  const int address = kFirstWorker + index;
  const absl::Duration until = platform_.timeline().now() + Between(1, 3);
  platform_.network().Cut(address, kScheduler, until);
  platform_.network().Cut(kScheduler, address, until);
  platform_.timeline().After(Between(2, 6), [this, index, times] { Flap(index, times - 1); });
}

void Chaos::JumpSomeClock() {
  SeededRandom& random = platform_.random();
  platform_.counts().Count("jump of a wall clock");
  const int64_t which = random.Below(6);
  Machine& machine =
      which < 3 ? platform_.machine(kServers[which])
                : platform_.worker_machine(static_cast<int>(random.Below(platform_.workers())));
  machine.JumpWallClock(random.Between(-absl::Hours(2), absl::Hours(2)));
}

}  // namespace deltaworks::simulation
