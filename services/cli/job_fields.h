// JobFields: what a part of a file says about a job, field by field, each with its line.
//
// A member of a map is a field of Job, of its TrainSpec, or of a message in them, by the name in
// job.proto; at the top the messages in between may be left out, so that `learning_rate` is
// train.arguments.learning_rate, and the short names of `dw job submit` (r, priority) are taken.
// Fields merge one by one, maps entry by entry; a list is one value. A null takes back what was
// said before, of a whole message too.
//
// Points into the YamlNodes, which must outlive it. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_JOB_FIELDS_H_
#define DELTAWORKS_SERVICES_CLI_JOB_FIELDS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/descriptor.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "services/cli/command.h"
#include "services/cli/yaml_document.h"

namespace deltaworks::services {

class JobFields {
 public:
  // `subject` is the file, for messages: "jobs.yaml".
  explicit JobFields(std::string subject) : subject_(std::move(subject)) {}

  // Takes a member of the map at `place` ("defaults", "jobs[3]"). InvalidArgument, with file, line
  // and path: no such field, a value of another shape, a field that was added already.
  absl::Status Add(const YamlNode& member, const std::string& place);

  // What `other` says goes over what this says.
  void Override(const JobFields& other);

  // The job, with the names of resources in full. InvalidArgument, with file, line and field: a
  // value that does not parse, or is no name.
  absl::StatusOr<v1::Job> ToJob(const CommandContext& context) const;

  // Of the field "train.lora.rank"; `otherwise` if nothing is said about it.
  int64_t LineOf(const std::string& field, int64_t otherwise) const;

 private:
  // Names of fields, and keys of maps, from the job on.
  using Path = std::vector<std::string>;
  struct Value {
    const google::protobuf::FieldDescriptor* field;  // Of an entry of a map: of its values.
    const YamlNode* node;
  };

  absl::Status AddField(const google::protobuf::FieldDescriptor& field, const YamlNode& node,
                        Path path, const std::string& place);
  absl::Status AddMembers(const google::protobuf::FieldDescriptor& field, const YamlNode& node,
                          const Path& path, const std::string& place);
  absl::Status AddValue(const google::protobuf::FieldDescriptor& field, const YamlNode& node,
                        const Path& path, const std::string& place);
  absl::StatusOr<Json> ValueJson(const CommandContext& context, const Path& path,
                                 const Value& value) const;
  absl::Status WhichIsWrong(const CommandContext& context, const absl::Status& otherwise) const;
  std::string Where(const YamlNode& node) const;

  std::string subject_;
  std::map<Path, Value> values_;  // Messages are here only as nulls.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_JOB_FIELDS_H_
