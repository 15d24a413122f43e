// A Platform over gRPC. See platform.h.

#ifndef DELTAWORKS_SERVICES_CLI_GRPC_PLATFORM_H_
#define DELTAWORKS_SERVICES_CLI_GRPC_PLATFORM_H_

#include <memory>

#include "services/cli/platform.h"

namespace deltaworks::services {

// Nothing is read or connected before a client is asked for.
std::unique_ptr<Platform> MakeGrpcPlatform(PlatformSettings settings);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_GRPC_PLATFORM_H_
