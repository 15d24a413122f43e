// ModelResolver: what a ModelSelector means: which version, on which base.
//
// Asks registry and store, so it blocks. Whatever it returns is READY and of one source digest.
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_MODEL_RESOLVER_H_
#define DELTAWORKS_SERVICES_INFERENCE_MODEL_RESOLVER_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"

namespace deltaworks::services {

struct ResolvedModel {
  v1::BaseModel base;
  std::optional<v1::AdapterVersion> version;  // Absent: the base alone.
  bool merged = false;                        // Only with a version.
};

// What can be told of `selector` without asking anybody. `field` begins the messages. Names of
// another tenant than `tenant` are NotFound.
absl::Status CheckModelSelector(const std::string& field, const std::string& tenant,
                                const v1::ModelSelector& selector);

class ModelResolver {
 public:
  // Both must outlive it.
  ModelResolver(StoreClient& store, RegistryClient& registry)
      : store_(store), registry_(registry) {}

  // `selector` has passed the check above.
  //   NotFound            no such model, for this tenant.
  //   FailedPrecondition  it is not READY; or the version is bound to another base (both digests),
  //                       or none of the tenant's bases is the one it is bound to.
  //   Unavailable         store or registry.
  absl::StatusOr<ResolvedModel> Resolve(const std::string& tenant,
                                        const v1::ModelSelector& selector) const;

 private:
  absl::StatusOr<v1::BaseModel> ReadyBase(const std::string& name) const;
  absl::StatusOr<v1::BaseModel> FindBase(const std::string& tenant,
                                         const v1::AdapterVersion& version) const;

  StoreClient& store_;
  RegistryClient& registry_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_MODEL_RESOLVER_H_
