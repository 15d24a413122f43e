// Platform: the real programs on loopback, with SQLite, a temporary folder and tokens of two
// tenants, for one test. Leases and checkpoints are short, so that everything happens in seconds.
//
//   acme     the tenant that the tests work for
//   globex   the other one
//   -        the services among themselves
//
// Services are started in the order of what they need and may be restarted at will (service.h).
// They die with the test; when a test has failed, the end of each log is printed. Own it in the
// test's main thread. Clients are thread-safe and repeat calls while a service is away.

#ifndef DELTAWORKS_TESTS_E2E_PLATFORM_H_
#define DELTAWORKS_TESTS_E2E_PLATFORM_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/clients/channel.h"
#include "services/clients/inference_client.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/clients/training_client.h"
#include "tests/e2e/disk.h"
#include "tests/e2e/link.h"
#include "tests/e2e/service.h"

namespace deltaworks::e2e {

namespace v1 = ::deltaworks::v1;

inline constexpr char kAcme[] = "acme";
inline constexpr char kGlobex[] = "globex";
inline constexpr char kPlatform[] = "-";

std::vector<std::string> DefaultDevices();

class Platform {
 public:
  struct Options {
    absl::Duration lease = absl::Seconds(2);
    absl::Duration checkpoint_interval = absl::Seconds(1);
    // One worker each, with one thread. By default $DELTAWORKS_E2E_DEVICE (a card's test sets it),
    // or cpu:0.
    std::vector<std::string> devices = DefaultDevices();
    bool inference = false;
    // Jobs that one worker trains together.
    int attempts_per_worker = 1;
    // Begin without them; the test does it.
    bool start_workers = true;
    // All processes, the test too, reach each other through links that the test may break.
    bool links = false;
    // What each process writes is on a disk that the test may fill.
    bool disks = false;
    // Each worker on a node of its own: it shares neither the cache nor the disk of others.
    bool own_nodes = false;
    // Empty: one under TempDir(), named after the test.
    std::string folder = "";
  };

  // In an empty folder, all services answering.
  explicit Platform(const Options& options);
  Platform() : Platform(Options()) {}
  ~Platform();

  Service& store() { return *store_; }
  Service& registry() { return *registry_; }
  Service& scheduler() { return *scheduler_; }
  Service& inference() { return *inference_; }
  Service& worker(int index = 0) { return *workers_.at(static_cast<size_t>(index)); }
  // "store", ..., "worker".
  Service& Find(const std::string& name);
  // The one that answers the rpcs of "TrainingService", "StoreService", ...
  Service& Serving(const std::string& rpc_service);
  // All that were made.
  std::vector<Service*> All();
  // Those that the service is an end of.
  std::vector<Link*> LinksOf(const Service& service);
  Disk& DiskOf(const Service& service) { return disks_.at(service.name()); }

  // What `tenant` sees.
  services::StoreClient& store_of(const std::string& tenant = kAcme);
  services::RegistryClient& registry_of(const std::string& tenant = kAcme);
  services::TrainingClient& training_of(const std::string& tenant = kAcme);
  services::InferenceClient& inference_of(const std::string& tenant = kAcme);

  // A connection of its own; calls through it are not repeated.
  services::Channel NewChannel(const Service& service, const std::string& token) const;
  const std::string& token(const std::string& tenant) const { return tokens_.at(tenant); }

  const std::string& folder() const { return folder_; }
  // From where the store imports.
  std::string import_folder() const { return folder_ + "/import"; }
  // Of inference, and of all workers but those on nodes of their own.
  std::string cache_folder() const { return CacheOf("node"); }
  std::string CacheOf(const std::string& node) const {
    return absl::StrCat(folder_, "/", node, "/cache");
  }
  std::string tokens_file() const { return folder_ + "/tokens"; }

 private:
  struct Clients {
    std::unique_ptr<services::StoreClient> store;
    std::unique_ptr<services::RegistryClient> registry;
    std::unique_ptr<services::TrainingClient> training;
    std::unique_ptr<services::InferenceClient> inference;
  };

  void MakeTokens();
  // `disk_folder`: where it writes.
  std::unique_ptr<Service> Make(const std::string& name, const std::string& program,
                                const std::string& disk_folder, std::vector<std::string> arguments);
  // Where `from` finds the service, which was started.
  std::string Route(const std::string& from, const Service& to);
  void MakeWorkers(const Options& options);
  void ConnectClients();
  std::string TokenFlag() const;

  const bool with_links_;
  const bool with_disks_;
  std::string folder_;
  std::map<std::string, std::string> tokens_;
  std::map<std::string, Disk> disks_;  // By name of the service.
  std::vector<std::unique_ptr<Link>> links_;
  std::unique_ptr<Service> store_;
  std::unique_ptr<Service> registry_;
  std::unique_ptr<Service> scheduler_;
  std::unique_ptr<Service> inference_;
  std::vector<std::unique_ptr<Service>> workers_;
  std::map<std::string, Clients> clients_;
};

// "tenants/acme".
std::string Parent(const std::string& tenant = kAcme);

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_PLATFORM_H_
