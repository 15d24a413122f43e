// DownloadVersionFile: one PEFT file of an adapter version, from the registry into a sink,
// verified.
//
// A stream that is cut goes on where it ended. Blocks; thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_VERSION_DOWNLOAD_H_
#define DELTAWORKS_SERVICES_CLIENTS_VERSION_DOWNLOAD_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "services/clients/registry_client.h"
#include "services/clients/retry.h"

namespace deltaworks::services {

struct VersionDownloadOptions {
  // total_max counts from the last byte that got through.
  RetryPolicy retry;
  // Of the file.
  int64_t bytes_max = std::numeric_limits<int64_t>::max();
  // Asked with every piece and before every wait; once true, Cancelled is returned.
  std::function<bool()> cancelled = [] { return false; };
};

// Takes the file's bytes in order; `size_bytes` is what it will have in all. An error ends the
// download, which returns it.
using VersionFileSink = std::function<absl::Status(absl::string_view data, int64_t size_bytes)>;

// `version` as the registry gave it; `path` as in trainer/lora/peft_format.h. On an error the sink
// may have taken bytes, never more than were announced.
//   DataLoss           the file is not the one announced, or not the one of the version's
//                      adapter_digest.
//   ResourceExhausted  the file is larger than bytes_max.
//   and those of DownloadVersion.
absl::Status DownloadVersionFile(RegistryClient& registry, const v1::AdapterVersion& version,
                                 const std::string& path, const VersionDownloadOptions& options,
                                 const VersionFileSink& sink);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_VERSION_DOWNLOAD_H_
