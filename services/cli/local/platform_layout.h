// PlatformLayout: where a platform on this machine keeps its files, below one home folder.
//
//   data/store, data/registry, data/scheduler   what must not be lost
//   cache/                  base models of the workers and of inference; may be removed when down
//   logs/NAME.log           what each process says, and NAME.log.1, .2: older
//   run/lock                held by the supervisor and each of its processes while one lives
//   run/state.json          what runs (platform_state.h)
//   run/NAME.port, .metrics_port   written by the processes
//   tokens                  the services' list of tokens (services/base/token_file.h)
//   platform_token          what services show each other, and `dw` where it acts for the operator;
//                           default_token: the owner's own
//   dw.json                 the client file of `dw`: addresses and tokens, while the platform is up
//
// The home is readable by its owner only. Plain functions and values; thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_PLATFORM_LAYOUT_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_PLATFORM_LAYOUT_H_

#include <map>
#include <string>

#include "absl/status/status.h"

namespace deltaworks::services {

struct PlatformLayout {
  std::string home;  // Absolute.

  std::string DataFolder(const std::string& service) const { return home + "/data/" + service; }
  std::string CacheFolder() const { return home + "/cache"; }
  std::string LogFolder() const { return home + "/logs"; }
  std::string LogFile(const std::string& name) const { return home + "/logs/" + name + ".log"; }
  std::string RunFolder() const { return home + "/run"; }
  std::string LockFile() const { return home + "/run/lock"; }
  std::string StateFile() const { return home + "/run/state.json"; }
  std::string PortFile(const std::string& name) const { return home + "/run/" + name + ".port"; }
  std::string MetricsPortFile(const std::string& name) const {
    return home + "/run/" + name + ".metrics_port";
  }
  std::string TokensFile() const { return home + "/tokens"; }
  std::string PlatformTokenFile() const { return home + "/platform_token"; }
  std::string DefaultTokenFile() const { return home + "/default_token"; }
  std::string ClientFile() const { return home + "/dw.json"; }
};

// Makes the folders that are missing; what is there stays. Errors name the path.
absl::Status MakeHome(const PlatformLayout& layout);
// Makes the tokens that are missing or that the list of tokens does not know. Hold the lock.
absl::Status MakeTokens(const PlatformLayout& layout);

// Writes dw.json. `addresses` has HOST:PORT of scheduler, store, registry and inference.
absl::Status WriteClientFile(const PlatformLayout& layout,
                             const std::map<std::string, std::string>& addresses);
void RemoveClientFile(const PlatformLayout& layout);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_PLATFORM_LAYOUT_H_
