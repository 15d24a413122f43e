// One measurement of the scheduler's process under a load that is made here; one line of JSON for
// tests/bench/scheduler. loads.h tells what is measured.

#include <signal.h>
#include <sys/prctl.h>

#include <cstdint>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "tests/bench/scheduler_load/loads.h"

int main(int argc, char** argv) {
  using deltaworks::bench::FleetOptions;
  using deltaworks::bench::LoadOptions;
  // Ends with the script that started it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);

  LoadOptions options;
  FleetOptions fleet;
  int64_t clients = 1;
  int64_t jobs = 500;
  double seconds = 10;
  double fsync_seconds = 1;
  double lease_seconds = absl::ToDoubleSeconds(options.scheduler.lease);
  double checkpoint_seconds = absl::ToDoubleSeconds(fleet.checkpoint_interval);
  CLI::App app("Durable submits, assignments, or a fleet of workers, against a real scheduler.");
  app.require_subcommand(1);
  app.add_option("--scheduler", options.scheduler.program, "its program")->required();
  app.add_option("--folder", options.scheduler.folder, "on the disk to measure; absent or empty")
      ->required();
  app.add_option("--fsync-seconds", fsync_seconds, "that the disk alone is measured, twice");
  app.add_option("--lease", lease_seconds);
  CLI::App* submits = app.add_subcommand("submits", "jobs accepted by second");
  submits->add_option("--clients", clients)->check(CLI::PositiveNumber);
  submits->add_option("--seconds", seconds);
  CLI::App* assignments = app.add_subcommand("assignments", "from a request to its worker");
  assignments->add_option("--jobs", jobs)->check(CLI::PositiveNumber);
  CLI::App* workers = app.add_subcommand("fleet", "workers that hold reports");
  workers->add_option("--workers", fleet.workers)->check(CLI::PositiveNumber);
  workers->add_option("--channels", fleet.channels)->check(CLI::PositiveNumber);
  workers->add_option("--checkpoint-seconds", checkpoint_seconds, "between a worker's checkpoints");
  workers->add_option("--seconds", seconds);
  CLI11_PARSE(app, argc, argv);

  options.duration = absl::Seconds(seconds);
  options.fsync_duration = absl::Seconds(fsync_seconds);
  options.scheduler.lease = absl::Seconds(lease_seconds);
  fleet.checkpoint_interval = absl::Seconds(checkpoint_seconds);
  if (*submits) std::cout << MeasureSubmits(options, clients) << "\n";
  if (*assignments) std::cout << MeasureAssignments(options, jobs) << "\n";
  if (*workers) std::cout << MeasureFleet(options, fleet) << "\n";
}
