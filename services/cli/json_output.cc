#include "services/cli/json_output.h"

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "google/protobuf/util/json_util.h"

namespace deltaworks::services {

std::string MessageJson(const google::protobuf::Message& message, bool one_line) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = !one_line;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  CHECK(status.ok()) << message.GetTypeName() << " as JSON: " << status.ToString();
  while (!json.empty() && json.back() == '\n') json.pop_back();
  return json;
}

void PrintJson(CommandContext& context, const google::protobuf::Message& message) {
  context.out << MessageJson(message) << "\n";
}

void PrintJsonLine(CommandContext& context, const google::protobuf::Message& message) {
  context.out << MessageJson(message, /*one_line=*/true) << "\n" << std::flush;
}

absl::Status ParseMessageJson(absl::string_view json, absl::string_view subject,
                              google::protobuf::Message& message) {
  const auto status =
      google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, &message);
  if (status.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(subject, ": ", std::string(status.message()),
                                                 ", want protobuf JSON of ",
                                                 std::string(message.GetTypeName())));
}

}  // namespace deltaworks::services
