// What the manifest of a version must have besides being one (services/base/manifest.h): its kind,
// its bindings, and the two files of a PEFT folder. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_REGISTRY_ADAPTER_MANIFEST_H_
#define DELTAWORKS_SERVICES_REGISTRY_ADAPTER_MANIFEST_H_

#include "absl/status/status.h"
#include "proto/deltaworks/v1/store_service.pb.h"

namespace deltaworks::services {

// `manifest` comes from ParseManifest(). InvalidArgument: subject, got, want.
absl::Status CheckAdapterManifest(const v1::Manifest& manifest);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_ADAPTER_MANIFEST_H_
