// The version that --version, /metrics, worker environments and adapter lineage tell.

#ifndef DELTAWORKS_SERVICES_BASE_VERSION_H_
#define DELTAWORKS_SERVICES_BASE_VERSION_H_

namespace deltaworks::services {

inline const char* BuildVersion() { return "0.1.0"; }

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_VERSION_H_
