// Random names: 128 bits from the system, which nobody guesses and no two processes share.
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_RANDOM_ID_H_
#define DELTAWORKS_SERVICES_BASE_RANDOM_ID_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::services {

// `count` bytes from getrandom(2).
std::string RandomBytes(size_t count);

// For simulations: from now on RandomBytes of this thread are 64 bits of `source` after the other.
// Null: the system's again.
void SetRandomBitsOfThread(std::function<uint64_t()> source);

// 32 lower-case hex digits.
std::string RandomHexId();

// A resource id: `prefix` ("ds-"), then 16 letters and digits (80 bits).
std::string RandomResourceId(absl::string_view prefix);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_RANDOM_ID_H_
