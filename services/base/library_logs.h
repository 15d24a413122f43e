// Lines of glog (CHECK, LOG) and of gRPC take the form of log.h.

#ifndef DELTAWORKS_SERVICES_BASE_LIBRARY_LOGS_H_
#define DELTAWORKS_SERVICES_BASE_LIBRARY_LOGS_H_

namespace deltaworks::services {

// Call once, early in main. gRPC's errors become warnings: most are about one connection.
void RouteLibraryLogs(const char* program);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_LIBRARY_LOGS_H_
