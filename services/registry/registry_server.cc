#include "services/registry/registry_server.h"

#include <prometheus/counter.h>

#include <filesystem>
#include <utility>

#include "services/base/log.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kPeriod = absl::Hours(24);
constexpr absl::Duration kRetry = absl::Minutes(1);

}  // namespace

absl::StatusOr<std::unique_ptr<RegistryServer>> RegistryServer::Start(
    const Options& options, std::unique_ptr<StoreClient> store, const Clock& clock,
    Metrics& metrics, const Authenticator& authenticator) {
  const std::string folder = std::filesystem::path(options.database_path).parent_path().string();
  if (!folder.empty()) DW_RETURN_IF_ERROR(MakeDirectories(folder));
  DW_ASSIGN_OR_RETURN(
      auto tables,
      RegistryTables::Open(options.database_path, {.size_bytes_max = options.database_bytes_max}));
  return std::unique_ptr<RegistryServer>(new RegistryServer(
      options, std::move(tables), std::move(store), clock, metrics, authenticator));
}

RegistryServer::RegistryServer(const Options& options, std::unique_ptr<RegistryTables> tables,
                               std::unique_ptr<StoreClient> store, const Clock& clock,
                               Metrics& metrics, const Authenticator& authenticator)
    : metrics_(metrics),
      store_(std::move(store)),
      core_(std::move(tables), *store_, clock, metrics_, options.core),
      service_(core_, authenticator),
      maintenance_([this] { Maintain(); }) {}

RegistryServer::~RegistryServer() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  maintenance_.join();
}

void RegistryServer::Maintain() {
  absl::Duration wait = absl::ZeroDuration();
  while (!WaitForStop(wait)) {
    const absl::Status status = core_.Reconcile();
    wait = status.ok() ? kPeriod : kRetry;
    if (status.ok()) continue;
    metrics_.maintenance_failures.Increment();
    LogWarning("pins were not compared with versions", {{"error", status}});
  }
}

bool RegistryServer::WaitForStop(absl::Duration wait) {
  MutexLock lock(&mutex_);
  // Waking early does no harm: what follows may be done at any time.
  if (!stopping_) changed_.WaitWithTimeout(&mutex_, wait);
  return stopping_;
}

}  // namespace deltaworks::services
