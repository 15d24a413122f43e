// DownloadVersion: an adapter version as a PEFT folder on this machine, whole or not at all.

#ifndef DELTAWORKS_SERVICES_CLI_DOWNLOAD_VERSION_H_
#define DELTAWORKS_SERVICES_CLI_DOWNLOAD_VERSION_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "services/clients/registry_client.h"
#include "services/clients/retry.h"

namespace deltaworks::services {

// Bytes done and in all of the file under way.
using DownloadProgress = std::function<void(const std::string& file, int64_t done, int64_t total)>;

// Writes adapter_config.json and adapter_model.safetensors of the version into the existing
// `folder`. Resumes and verifies as services/clients/version_download.h says, with its errors.
absl::Status DownloadVersion(RegistryClient& registry, const v1::AdapterVersion& version,
                             const std::string& folder, const RetryPolicy& policy,
                             const DownloadProgress& progress);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_DOWNLOAD_VERSION_H_
