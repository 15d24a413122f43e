// MakeVersionRequest: what the registry is asked for a finished job. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_VERSION_REQUEST_H_
#define DELTAWORKS_SCHEDULER_VERSION_REQUEST_H_

#include "proto/deltaworks/v1/registry_service.pb.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

// Whether it is time to ask: the job is FINALIZING, and the store has all that its version names.
bool WantsVersion(const JobRecord& record);

// For a FINALIZING job: its adapter, the key (job, result), the accepted manifest, the lineage.
// The same for every call, so that repeating it is safe.
v1::CreateVersionRequest MakeVersionRequest(const JobRecord& record);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_VERSION_REQUEST_H_
