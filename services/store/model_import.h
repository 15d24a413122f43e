// ImportToBlobs: one base model from its source into blobs and a manifest. The work of
// base_models.h, without rows and threads.

#ifndef DELTAWORKS_SERVICES_STORE_MODEL_IMPORT_H_
#define DELTAWORKS_SERVICES_STORE_MODEL_IMPORT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/blobs.h"

namespace deltaworks::services {

// Called with the share done, in [0, 1]; an error ends the import, which returns it.
using ImportProgress = std::function<absl::Status(double share)>;

// Imports what `request` names, working in `work_folder` (made, and emptied first), for `owner`,
// the base model's name, whose pins hold uploaded sources. Fills in everything of `base_model` that
// the source tells, the manifest's digest included. Errors are those of trainer/import/import.h,
// and of the blobs.
absl::Status ImportToBlobs(Blobs& blobs, const std::string& tenant, const std::string& owner,
                           const v1::ImportBaseModelRequest& request,
                           const std::string& work_folder, const ImportProgress& progress,
                           v1::BaseModel& base_model);

// What a failed import says to its user.
v1::Failure ImportFailure(const absl::Status& status);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_MODEL_IMPORT_H_
