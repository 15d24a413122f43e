// The kill drill: jobs of two tenants run through a platform of real processes that are killed,
// stopped, starved and disconnected at random moments (faults.h), and at the end nothing was lost,
// nothing is there twice, and every byte is that of an undisturbed run (verdict.h). README.md tells
// how long it takes and what it prints. Status 1: something broke, and the folder is kept.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "services/base/flags.h"
#include "services/base/random_id.h"
#include "tests/drill/customer.h"
#include "tests/drill/drill_jobs.h"
#include "tests/drill/faults.h"
#include "tests/drill/verdict.h"
#include "tests/e2e/await.h"
#include "tests/e2e/platform.h"

namespace deltaworks::drill {
namespace {

constexpr absl::Duration kBetweenTurns = absl::Milliseconds(5);
constexpr absl::Duration kBetweenProgress = absl::Seconds(10);
// Jobs that one worker trains together.
constexpr int kAttemptsPerWorker = 3;

struct Settings {
  int64_t kills = 50;
  int64_t jobs = 10;
  int64_t seed = 0;
  int64_t workers = 2;
  int64_t jobs_at_once = 4;
  absl::Duration mean_gap = absl::Seconds(3);
  absl::Duration patience = absl::Minutes(2);
  std::string folder;
};

class Drill {
 public:
  explicit Drill(const Settings& settings)
      : settings_(settings), platform_(PlatformOptions(settings)) {}

  // Returns what broke.
  std::vector<std::string> Run() {
    for (const std::string& tenant : tenants_) AddBasesAndData(platform_, tenant);
    const References references = RunReferences(platform_, tenants_.front());
    Progress("undisturbed runs are done");

    const auto seed = static_cast<uint32_t>(settings_.seed);
    for (const std::string& tenant : tenants_) {
      customers_.push_back(
          std::make_unique<Customer>(platform_, tenant, static_cast<int>(settings_.jobs_at_once),
                                     seed + 1 + static_cast<uint32_t>(customers_.size())));
    }
    Faults faults(platform_, {.seed = seed,
                              .mean_gap = settings_.mean_gap,
                              .log_path = platform_.folder() + "/run/faults.log"});
    Disturb(faults);
    std::vector<std::string> broke;
    if (!faults.Mend()) broke.push_back("not every process answers after the last fault");
    for (const auto& customer : customers_) customer->Stop();
    const auto idle = [this, &faults] {
      faults.Turn();
      return AllIdle();
    };
    if (!e2e::Await(settings_.patience, idle)) {
      broke.push_back(absl::StrCat("jobs had not ended ", absl::FormatDuration(settings_.patience),
                                   " after the last fault"));
    }
    Progress("the last jobs have ended");
    for (const auto& customer : customers_) Append(customer->complaints(), broke);
    Tally tally;
    Append(WhatBroke(platform_, references, tenants_, Accepted(), tally), broke);
    std::cout << tally.attempts << " attempts, " << tally.from_checkpoints
              << " of them from a checkpoint; " << tally.interrupted << " jobs had more than one\n";
    faults.Turn();
    Append(faults.surprises(), broke);
    EndAll(broke);
    Append(FatalLines(platform_), broke);
    Progress("everything was looked at");
    return broke;
  }

  const std::string& folder() const { return platform_.folder(); }

 private:
  static e2e::Platform::Options PlatformOptions(const Settings& settings) {
    e2e::Platform::Options options = {
        .attempts_per_worker = kAttemptsPerWorker,
        .links = true,
        .disks = true,
        .own_nodes = true,
        .folder = settings.folder,
    };
    options.devices.clear();
    for (int64_t i = 0; i < settings.workers; ++i) {
      options.devices.push_back(absl::StrCat("cpu:", i));
    }
    return options;
  }

  static void Append(const std::vector<std::string>& lines, std::vector<std::string>& to) {
    to.insert(to.end(), lines.begin(), lines.end());
  }

  void Disturb(Faults& faults) {
    absl::Time next_progress = absl::Now() + kBetweenProgress;
    while (faults.count() < settings_.kills ||
           static_cast<int64_t>(Accepted().size()) < settings_.jobs) {
      faults.Turn();
      if (absl::Now() >= next_progress) {
        next_progress += kBetweenProgress;
        Progress(absl::StrCat(faults.count(), " of ", settings_.kills, " kills"));
      }
      absl::SleepFor(kBetweenTurns);
    }
    Progress(absl::StrCat(faults.count(), " kills, ", faults.failed_starts(), " failed starts"));
    std::cout << faults.Table() << std::endl;
  }

  // In good order, workers first.
  void EndAll(std::vector<std::string>& broke) {
    std::vector<e2e::Service*> services = platform_.All();
    std::reverse(services.begin(), services.end());
    for (e2e::Service* service : services) {
      if (const int code = service->Terminate(); code != 0) {
        broke.push_back(absl::StrCat(service->name(), " ended with code ", code, " on SIGTERM"));
      }
    }
  }

  std::vector<AcceptedJob> Accepted() const {
    std::vector<AcceptedJob> all;
    for (const auto& customer : customers_) {
      const std::vector<AcceptedJob> jobs = customer->jobs();
      all.insert(all.end(), jobs.begin(), jobs.end());
    }
    return all;
  }

  bool AllIdle() const {
    for (const auto& customer : customers_) {
      if (!customer->idle()) return false;
    }
    return true;
  }

  void Progress(const std::string& what) const {
    int64_t accepted = 0;
    int64_t ended = 0;
    int64_t repeats = 0;
    for (const auto& customer : customers_) {
      for (const AcceptedJob& job : customer->jobs()) {
        ++accepted;
        ended += job.ended ? 1 : 0;
      }
      repeats += customer->repeats();
    }
    std::cout << absl::StrCat(absl::ToInt64Seconds(absl::Now() - begin_), " s: ", what, "; ",
                              accepted, " jobs accepted, ", ended, " ended, ", repeats,
                              " requests repeated")
              << std::endl;
  }

  const Settings settings_;
  const absl::Time begin_ = absl::Now();
  const std::vector<std::string> tenants_ = {e2e::kAcme, e2e::kGlobex};
  e2e::Platform platform_;
  std::vector<std::unique_ptr<Customer>> customers_;
};

// Logs and the times of faults, to where Bazel keeps what a test leaves.
void KeepLogs(const std::string& folder) {
  const char* outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  if (outputs == nullptr) return;
  std::error_code ignored;
  std::filesystem::copy(folder + "/run", std::string(outputs) + "/run",
                        std::filesystem::copy_options::recursive, ignored);
}

int Main(int argc, char** argv) {
  Settings settings;
  services::FlagSet flags("kill_drill", "Breaks a platform again and again; nothing may be lost.");
  flags.Add("kills", &settings.kills, "faults of all kinds");
  flags.Add("jobs", &settings.jobs, "jobs at least; faults go on until they are accepted");
  flags.Add("seed", &settings.seed, "of the faults' moments; 0: the clock's");
  flags.Add("mean_gap", &settings.mean_gap, "between two faults");
  flags.Add("workers", &settings.workers, "processes that train, of one thread each");
  flags.Add("jobs_at_once", &settings.jobs_at_once,
            "that each of two tenants has under way, about");
  flags.Add("patience", &settings.patience, "for the last jobs, after the last fault");
  flags.Add("folder", &settings.folder, "of the platform, new; default: a temporary one");
  const auto parsed = flags.Parse(argc, argv);
  if (!parsed.ok()) std::cerr << parsed.status() << "\n";
  if (parsed.ok() && !*parsed) std::cout << flags.output();
  if (!parsed.ok() || !*parsed) return parsed.ok() ? 0 : 2;
  if (settings.seed == 0) settings.seed = absl::ToUnixMillis(absl::Now()) % 1'000'000;
  const bool own_folder = settings.folder.empty();
  if (own_folder) {
    settings.folder =
        std::filesystem::path(::testing::TempDir()) / services::RandomResourceId("kill-drill-");
  }
  if (std::filesystem::exists(settings.folder)) {
    std::cerr << "--folder is " << settings.folder << ", which exists; want a new one\n";
    return 2;
  }
  std::cout << "kill_drill --seed=" << settings.seed << " in " << settings.folder << std::endl;

  std::vector<std::string> broke;
  {
    Drill drill(settings);
    broke = drill.Run();
  }
  if (broke.empty()) {
    std::cout << "nothing was lost, nothing is there twice, every byte is the same" << std::endl;
    if (own_folder) std::filesystem::remove_all(settings.folder);
    return 0;
  }
  KeepLogs(settings.folder);
  std::cout << "BROKEN (--seed=" << settings.seed << ", see " << settings.folder << "/run):\n";
  for (const std::string& line : broke) std::cout << "  " << line << "\n";
  return 1;
}

}  // namespace
}  // namespace deltaworks::drill

int main(int argc, char** argv) { return deltaworks::drill::Main(argc, argv); }
