// ServiceMain: the main() that every service shares.
//
//   flags -> log -> token file -> /metrics -> Start() -> gRPC server -> port files -> wait
//   SIGTERM, SIGINT or request_stop() -> not serving -> Drain() -> server stopped -> Stop() -> exit
//
// A second signal ends the process at once. Exit codes:
//
//   0  stopped as told
//   1  stopped by an error of its own (request_stop with one)
//   2  a flag, the config file or the token file is wrong: starting again will not help
//   3  could not start: address in use, database locked, disk full; starting again may help
//
// A service implements ServiceProgram; its main() is `return ServiceMain(argc, argv, program);`.

#ifndef DELTAWORKS_SERVICES_BASE_SERVICE_MAIN_H_
#define DELTAWORKS_SERVICES_BASE_SERVICE_MAIN_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/base/service_exit.h"

namespace grpc {
class Service;
}

namespace deltaworks::services {

class Authenticator;
class Clock;
class FlagSet;
class Metrics;

// What ServiceMain gives to a program. All of it outlives Stop().
struct ServiceEnvironment {
  const Clock& clock;
  Metrics& metrics;
  const Authenticator& authenticator;
  // Ends the process in good order; an error becomes exit code 1. From any thread, any time.
  std::function<void(absl::Status)> request_stop;
};

class ServiceProgram {
 public:
  virtual ~ServiceProgram() = default;

  // "store": in logs, metrics, environment variables and the config file's section.
  virtual std::string name() const = 0;
  // One sentence for --help.
  virtual std::string description() const = 0;
  virtual void AddFlags(FlagSet& flags) = 0;

  // Opens what it needs. InvalidArgument is exit code 2, any other error 3; then Stop() is not
  // called.
  virtual absl::Status Start(const ServiceEnvironment& environment) = 0;
  // After Start(); owned by the program, which keeps them until after Stop().
  virtual std::vector<grpc::Service*> services() { return {}; }
  // Calls are answered from now on. `address` is "127.0.0.1:PORT".
  virtual void Serving(const std::string& address) { static_cast<void>(address); }
  // Told to stop, while calls are still answered: end streams, hand back leases. Returns within
  // `deadline`.
  virtual void Drain(absl::Duration deadline) { static_cast<void>(deadline); }
  // No call is under way and none will come.
  virtual void Stop() = 0;
};

// Never throws; returns the exit code.
int ServiceMain(int argc, char** argv, ServiceProgram& program);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_SERVICE_MAIN_H_
