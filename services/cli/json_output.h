// JSON for programs: the messages of the services as protobuf JSON, field names as in the .proto
// files, every field of plain type present. 64-bit integers are strings there, as protobuf JSON has
// it. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_JSON_OUTPUT_H_
#define DELTAWORKS_SERVICES_CLI_JSON_OUTPUT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "services/cli/command.h"

namespace deltaworks::services {

// Indented over several lines, or in one.
std::string MessageJson(const google::protobuf::Message& message, bool one_line = false);

// The document of a command: indented, with a newline.
void PrintJson(CommandContext& context, const google::protobuf::Message& message);
// One of many: in one line, flushed.
void PrintJsonLine(CommandContext& context, const google::protobuf::Message& message);

// Fills `message` from JSON; unknown fields are errors. InvalidArgument begins with `subject`.
absl::Status ParseMessageJson(absl::string_view json, absl::string_view subject,
                              google::protobuf::Message& message);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_JSON_OUTPUT_H_
