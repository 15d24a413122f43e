// Json: nlohmann::json without exceptions. Include it in sources only; it is a heavy header.

#ifndef DELTAWORKS_TRAINER_BASE_JSON_H_
#define DELTAWORKS_TRAINER_BASE_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace deltaworks {

using Json = nlohmann::json;

// Parses `text`. InvalidArgument, beginning with `subject`, tells the byte where it went wrong.
// Text nested deeper than 100 levels is refused.
absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view subject);

// The field `name` of `object`; InvalidArgument if it is absent or of another type. `subject`
// begins the message: "config.json: hidden_size is \"576\", want an integer".
absl::StatusOr<int64_t> JsonInt(const Json& object, const std::string& name,
                                absl::string_view subject);
absl::StatusOr<double> JsonDouble(const Json& object, const std::string& name,
                                  absl::string_view subject);
absl::StatusOr<bool> JsonBool(const Json& object, const std::string& name,
                              absl::string_view subject);
absl::StatusOr<std::string> JsonString(const Json& object, const std::string& name,
                                       absl::string_view subject);

// True if `object` has the field and it is not null.
bool JsonHas(const Json& object, const std::string& name);

// The text of `value`: keys sorted, invalid UTF-8 replaced; indent < 0 gives one line.
std::string JsonText(const Json& value, int indent = -1);

}  // namespace deltaworks

#endif  // DELTAWORKS_TRAINER_BASE_JSON_H_
