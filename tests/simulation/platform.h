// Platform: what chaos and users see of a world.

#ifndef DELTAWORKS_TESTS_SIMULATION_PLATFORM_H_
#define DELTAWORKS_TESTS_SIMULATION_PLATFORM_H_

#include "tests/simulation/fault_counts.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/network.h"
#include "tests/simulation/scheduler_process.h"
#include "tests/simulation/seeded_random.h"
#include "tests/simulation/simulated_disk.h"
#include "tests/simulation/timeline.h"
#include "tests/simulation/witness.h"
#include "tests/simulation/worker_process.h"

namespace deltaworks::simulation {

class Platform {
 public:
  virtual ~Platform() = default;

  virtual Timeline& timeline() = 0;
  virtual SeededRandom& random() = 0;
  virtual FaultCounts& counts() = 0;
  virtual Network& network() = 0;
  virtual Witness& witness() = 0;

  virtual int workers() const = 0;
  // nullptr while it is down.
  virtual WorkerProcess* worker(int index) = 0;
  virtual Machine& worker_machine(int index) = 0;
  virtual Slot<SchedulerProcess>& scheduler() = 0;
  virtual Slot<StoreProcess>& store() = 0;
  // Of kScheduler, kRegistry or kStore.
  virtual Machine& machine(Address server) = 0;
  virtual SimulatedDisk& disk(Address server) = 0;

  // Ends it at once; it is started again some time later.
  virtual void Kill(Address server) = 0;
  virtual void KillWorker(int index) = 0;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_PLATFORM_H_
