// RegistryServer: what the registry's process is made of, in the order in which it is made.
//
//   RegistryTables (SQLite) -> RegistryCore -> RegistryService
//                              StoreClient -^      maintenance thread
//
// The thread compares the store's pins with the versions at the start and then once a day; after a
// failure it tries again in a minute. Start() fails if the database cannot be opened. Destroy it
// after the gRPC server.

#ifndef DELTAWORKS_SERVICES_REGISTRY_REGISTRY_SERVER_H_
#define DELTAWORKS_SERVICES_REGISTRY_REGISTRY_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/metrics.h"
#include "services/clients/store_client.h"
#include "services/registry/metrics.h"
#include "services/registry/registry_core.h"
#include "services/registry/registry_service.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class RegistryServer {
 public:
  struct Options {
    // The SQLite file; its folder is made if it is missing.
    std::string database_path;
    // 0: no bound.
    int64_t database_bytes_max = 0;
    RegistryCore::Options core;
  };

  // `clock`, `metrics` and `authenticator` must outlive the server.
  static absl::StatusOr<std::unique_ptr<RegistryServer>> Start(const Options& options,
                                                               std::unique_ptr<StoreClient> store,
                                                               const Clock& clock, Metrics& metrics,
                                                               const Authenticator& authenticator);
  // Waits for the maintenance thread, and so for at most one call to the store.
  ~RegistryServer();

  RegistryService& service() { return service_; }

 private:
  RegistryServer(const Options& options, std::unique_ptr<RegistryTables> tables,
                 std::unique_ptr<StoreClient> store, const Clock& clock, Metrics& metrics,
                 const Authenticator& authenticator);
  void Maintain();
  // True once the server is to stop; at the latest after `wait`.
  bool WaitForStop(absl::Duration wait) ABSL_LOCKS_EXCLUDED(mutex_);

  RegistryMetrics metrics_;
  const std::unique_ptr<StoreClient> store_;
  RegistryCore core_;
  RegistryService service_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread maintenance_;  // Last: it uses what is above.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_REGISTRY_SERVER_H_
