// With which code a service ends (service_main.h), apart from what it takes to be one: whoever
// starts services reads the code.

#ifndef DELTAWORKS_SERVICES_BASE_SERVICE_EXIT_H_
#define DELTAWORKS_SERVICES_BASE_SERVICE_EXIT_H_

namespace deltaworks::services {

inline constexpr int kExitStopped = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitCannotStart = 3;

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_SERVICE_EXIT_H_
