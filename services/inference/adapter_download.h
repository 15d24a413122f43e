// DownloadPeft: the PEFT files of a version, from the registry into memory, verified.
//
// A stream that is cut goes on where it ended. Blocks; thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_ADAPTER_DOWNLOAD_H_
#define DELTAWORKS_SERVICES_INFERENCE_ADAPTER_DOWNLOAD_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "services/clients/registry_client.h"
#include "services/clients/retry.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::services {

struct DownloadOptions {
  // total_max counts from the last byte that got through.
  RetryPolicy retry;
  // Of one file.
  int64_t bytes_max = int64_t{1} << 30;
  // Asked with every piece; once true, Cancelled is returned.
  std::function<bool()> cancelled = [] { return false; };
};

//   DataLoss           a file is not the one announced, or not that of the version's digest.
//   ResourceExhausted  a file is larger than bytes_max.
//   and those of DownloadVersion.
absl::StatusOr<trainer::PeftFiles> DownloadPeft(RegistryClient& registry,
                                                const v1::AdapterVersion& version,
                                                const DownloadOptions& options);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_ADAPTER_DOWNLOAD_H_
