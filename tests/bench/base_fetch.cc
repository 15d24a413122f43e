// base_fetch: four nodes without a base get it, each by itself and then together as a gang, from
// the real store on this machine. Prints one line of JSON each, and the ratio.

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/base/flags.h"
#include "services/base/metrics.h"
#include "services/clients/base_cache.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/workload.h"
#include "trainer/comm/testing/meeting.h"

namespace deltaworks::e2e {
namespace {

constexpr int kNodes = 4;

class Fetches {
 public:
  Fetches(Platform& platform, const v1::BaseModel& base) : platform_(platform), base_(base) {}

  // Seconds until the last node has it.
  double Run(const std::string& name, bool in_gang) {
    trainer::Meeting meeting(trainer::CommunicatorKind::kTcp, kNodes);
    std::vector<std::thread> nodes;
    const double sent = SentByStore();
    const absl::Time begin = absl::Now();
    for (int node = 0; node < kNodes; ++node) {
      nodes.emplace_back([&, node] {
        services::Metrics metrics("node");
        services::BaseCache cache(absl::StrCat(platform_.folder(), "/", name, node),
                                  platform_.store_of(), metrics);
        const services::BlobAccess access = {kAcme, base_.name()};
        const auto never = [] { return false; };
        if (!in_gang) {
          Must(cache.Ensure(access, base_.manifest_digest(), never));
          return;
        }
        const auto member = Must(meeting.Join(node, absl::Seconds(60)));
        Must(cache.EnsureInGang(access, base_.manifest_digest(), never, member->communicator()));
      });
    }
    for (std::thread& node : nodes) node.join();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    std::cout << "{\"fetch\": \"" << name << "\", \"nodes\": " << kNodes
              << ", \"base_bytes\": " << base_.size_bytes() << ", \"seconds\": " << seconds
              << ", \"sent_by_store\": " << static_cast<int64_t>(SentByStore() - sent) << "}"
              << std::endl;
    for (int node = 0; node < kNodes; ++node) {
      std::filesystem::remove_all(absl::StrCat(platform_.folder(), "/", name, node));
    }
    return seconds;
  }

 private:
  double SentByStore() {
    return Sample(Scrape(platform_.store().metrics_address()), "deltaworks_store_read_bytes_total");
  }

  Platform& platform_;
  const v1::BaseModel& base_;
};

int Run(int argc, char** argv) {
  int64_t hidden_size = 4'096;
  int64_t rounds = 3;
  services::FlagSet flags("base_fetch", "Four cold nodes fetch a base: each by itself, as a gang.");
  flags.Add("hidden_size", &hidden_size, "of the base, which has 64 bytes by its square");
  flags.Add("rounds", &rounds, "of each, by turns");
  std::string folder = absl::StrCat(::testing::TempDir(), "/base_fetch");
  flags.Add("folder", &folder, "of the store and the nodes, emptied");
  const auto parsed = flags.Parse(argc, argv);
  if (!parsed.ok()) std::cerr << parsed.status() << "\n";
  if (parsed.ok() && !*parsed) std::cout << flags.output();
  if (!parsed.ok() || !*parsed) return parsed.ok() ? 0 : 2;
  std::filesystem::remove_all(folder);
  Platform platform({.start_workers = false, .folder = folder});
  const v1::BaseModel base =
      ImportBase(platform, {.form = v1::BF16, .model = LargerModel(hidden_size)});
  Fetches fetches(platform, base);
  double alone = 0, gang = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    alone += fetches.Run("alone", /*in_gang=*/false);
    gang += fetches.Run("gang", /*in_gang=*/true);
  }
  std::cout << "as a gang in " << gang / alone << " of the time" << std::endl;
  return 0;
}

}  // namespace
}  // namespace deltaworks::e2e

int main(int argc, char** argv) { return deltaworks::e2e::Run(argc, argv); }
