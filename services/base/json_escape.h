// A string and a number as JSON writes them, without the weight of a JSON library.

#ifndef DELTAWORKS_SERVICES_BASE_JSON_ESCAPE_H_
#define DELTAWORKS_SERVICES_BASE_JSON_ESCAPE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::services {

// `text` in double quotes. Control characters are escaped; bytes that are not UTF-8 become U+FFFD.
std::string JsonQuote(absl::string_view text);

// Shortest form that reads back as the same double; null for infinities and NaN.
std::string JsonNumber(double value);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_JSON_ESCAPE_H_
