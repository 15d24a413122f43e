// VersionChecker: may this manifest become a version? (PROTOCOL: from result to version, step 3.)
//
// Reads every blob that the manifest names and checks, in this order: the manifest itself, that no
// blob is absent, the base's binding (source digest and form), the digests of files and chunks, the
// PEFT configuration, each tensor's name and shape against the base's config.json, every number
// finite, and the base that the adapter's own file is bound to. No weights of the base are read.
//
// A verdict is READY or REJECTED; both are final. Whatever keeps it from being reached is an error:
//   FailedPrecondition  "missing blobs: " and up to 100 digests, joined by ", "
//   Unavailable         the store cannot be reached or is wrong about its bytes; repeat
//
// Thread-compatible: keeps the shapes of bases it has seen.

#ifndef DELTAWORKS_SERVICES_REGISTRY_VERSION_CHECKER_H_
#define DELTAWORKS_SERVICES_REGISTRY_VERSION_CHECKER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "services/clients/store_client.h"
#include "services/registry/metrics.h"
#include "services/registry/verified_blob_reader.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::services {

inline constexpr char kMissingBlobs[] = "missing blobs: ";

// "missing blobs: sha256:..., sha256:...".
absl::Status MissingBlobs(absl::Span<const std::string> digests);

// REJECTED with this failure; its message is cut to 2,000 bytes.
void Reject(absl::string_view code, v1::Failure::Fault fault, absl::string_view field,
            absl::string_view message, v1::AdapterVersion& version);

class VersionChecker {
 public:
  // `adapter_bytes_max`: of adapter_model.safetensors, which is held in memory twice.
  VersionChecker(StoreClient& store, RegistryMetrics& metrics, int64_t adapter_bytes_max)
      : store_(store), reader_(store, metrics), adapter_bytes_max_(adapter_bytes_max) {}

  // `version` as requested, by a valid request of `tenant`. Returns it with state, failure and what
  // the manifest tells filled in.
  absl::StatusOr<v1::AdapterVersion> Check(const std::string& tenant,
                                           const v1::AdapterVersion& version);

  // Which of the digests the tenant has not; up to 10,001 of them.
  absl::StatusOr<std::vector<std::string>> FindMissing(const std::string& tenant,
                                                       const std::vector<std::string>& digests);

 private:
  friend class VersionCheck;
  using Modules = std::vector<trainer::LinearModule>;
  // The linears of a base, by its config.json.
  absl::StatusOr<const Modules*> ModulesOf(const std::string& tenant, const v1::BaseModel& base);

  StoreClient& store_;
  const VerifiedBlobReader reader_;
  const int64_t adapter_bytes_max_;
  absl::flat_hash_map<std::string, Modules> modules_;  // By the base's manifest digest.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_VERSION_CHECKER_H_
