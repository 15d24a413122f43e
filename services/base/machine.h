// What a process may use of its machine: cores, threads, memory. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_MACHINE_H_
#define DELTAWORKS_SERVICES_BASE_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaworks::services {

// The numbers in a --cores flag. InvalidArgument for what is none.
absl::StatusOr<std::vector<int>> ParseCores(const std::vector<std::string>& texts);

// As many threads as cores are given, or else as the machine has; at least 1.
int ThreadsFor(const std::vector<int>& cores);

// The machine's memory, or what its control group leaves this process of it.
int64_t MemoryOfThisProcess();

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_MACHINE_H_
