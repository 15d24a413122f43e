#include "services/cli/apply_file.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "scheduler/job_spec.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "services/cli/job_fields.h"
#include "services/cli/yaml_document.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using Kind = YamlNode::Kind;

constexpr size_t kDigestCharactersMax = 16;

// Only what is set is in the bytes, so that a dw that knows more fields gives the same.
std::string DigestOf(const v1::Job& job) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    job.SerializeToCodedStream(&coded);
  }
  const std::string digest = Sha256Digest(bytes);
  return std::string(absl::StripPrefix(digest, "sha256:").substr(0, kDigestCharactersMax));
}

class FileReader {
 public:
  FileReader(const CommandContext& context, const std::string& subject)
      : context_(context), subject_(subject), defaults_(subject) {}

  absl::StatusOr<std::vector<FileJob>> Read(const YamlNode& root) {
    DW_RETURN_IF_ERROR(Want(root, Kind::kMap, "the file", "a map with jobs"));
    const YamlNode* jobs = nullptr;
    for (const YamlNode& member : root.children) {
      if (member.key == "jobs") {
        jobs = &member;
      } else if (member.key == "base_model") {
        DW_RETURN_IF_ERROR(defaults_.Add(member, "the file"));
      } else if (member.key == "defaults") {
        DW_RETURN_IF_ERROR(ReadDefaults(member));
      } else {
        return Wrong(member, absl::StrCat("the file has no field ", JsonQuote(member.key),
                                          ", want base_model, defaults and jobs"));
      }
    }
    if (jobs == nullptr) return Wrong(root, "jobs is absent, want a list of jobs");
    return ReadJobs(*jobs);
  }

 private:
  absl::Status Wrong(int64_t line, absl::string_view message) const {
    return absl::InvalidArgumentError(absl::StrCat(subject_, ":", line, ": ", message));
  }
  absl::Status Wrong(const YamlNode& node, absl::string_view message) const {
    return Wrong(node.line, message);
  }

  absl::Status Want(const YamlNode& node, Kind kind, absl::string_view place,
                    absl::string_view want) const {
    if (node.kind == kind) return absl::OkStatus();
    return Wrong(node, absl::StrCat(place, " is ", KindText(node.kind), ", want ", want));
  }

  absl::Status ReadDefaults(const YamlNode& node) {
    if (node.kind == Kind::kNull) return absl::OkStatus();
    DW_RETURN_IF_ERROR(Want(node, Kind::kMap, "defaults", "a map of fields"));
    for (const YamlNode& member : node.children) {
      DW_RETURN_IF_ERROR(defaults_.Add(member, "defaults"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<FileJob>> ReadJobs(const YamlNode& node) {
    DW_RETURN_IF_ERROR(Want(node, Kind::kList, "jobs", "a list of jobs"));
    const auto count = static_cast<int64_t>(node.children.size());
    if (count < 1 || count > kApplyJobsMax) {
      return Wrong(node, absl::StrCat("jobs has ", count, " entries, want 1..", kApplyJobsMax));
    }
    std::vector<FileJob> jobs;
    jobs.reserve(node.children.size());
    for (const YamlNode& entry : node.children) {
      DW_ASSIGN_OR_RETURN(FileJob job, ReadJob(entry, absl::StrCat("jobs[", jobs.size(), "]")));
      jobs.push_back(std::move(job));
    }
    return jobs;
  }

  absl::StatusOr<FileJob> ReadJob(const YamlNode& entry, const std::string& place) {
    DW_RETURN_IF_ERROR(Want(entry, Kind::kMap, place, "a map with name"));
    FileJob job;
    JobFields own(subject_);
    for (const YamlNode& member : entry.children) {
      if (member.key == "name") {
        DW_ASSIGN_OR_RETURN(job.id, ReadName(member, place));
      } else {
        DW_RETURN_IF_ERROR(own.Add(member, place));
      }
    }
    if (job.id.empty()) {
      return Wrong(entry, absl::StrCat(place, " has no name, want the id of the job"));
    }
    JobFields fields = defaults_;
    fields.Override(own);
    DW_ASSIGN_OR_RETURN(job.job, fields.ToJob(context_));
    DW_RETURN_IF_ERROR(Complete(entry, fields, job));
    return job;
  }

  absl::StatusOr<std::string> ReadName(const YamlNode& node, const std::string& place) {
    DW_RETURN_IF_ERROR(Want(node, Kind::kScalar, absl::StrCat(place, ".name"), "an id"));
    DW_RETURN_IF_ERROR(
        CheckResourceId(absl::StrCat(subject_, ":", node.line, ": ", place, ".name"), node.text));
    const auto [first, is_new] = line_of_name_.emplace(node.text, node.line);
    if (is_new) return node.text;
    return Wrong(
        node, absl::StrCat(place, ".name is ", JsonQuote(node.text),
                           ", which is that of the job in line ", first->second, ", want another"));
  }

  // Labels the job and checks it as the scheduler will.
  absl::Status Complete(const YamlNode& entry, const JobFields& fields, FileJob& job) const {
    if (job.job.labels().contains(kApplyLabel)) {
      return Wrong(fields.LineOf(absl::StrCat("labels.", kApplyLabel), entry.line),
                   absl::StrCat("labels.", kApplyLabel, " is for dw to write, want another label"));
    }
    for (const auto& [field, value] : {std::pair("base_model", job.job.train().base_model()),
                                       std::pair("dataset", job.job.train().dataset())}) {
      if (!value.empty()) continue;
      return Wrong(entry, absl::StrCat("job ", job.id, " has no ", field, ", want one"));
    }
    (*job.job.mutable_labels())[kApplyLabel] = DigestOf(job.job);
    const absl::Status status = scheduler::CompleteJob(job.job, context_.tenant, job.id).status();
    if (status.ok()) return status;
    const absl::string_view message = absl::StripPrefix(status.message(), "job.");
    const std::string field(message.substr(0, message.find_first_of(" [")));
    return Wrong(fields.LineOf(field, entry.line), absl::StrCat(message, " (job ", job.id, ")"));
  }

  const CommandContext& context_;
  const std::string subject_;
  JobFields defaults_;
  absl::flat_hash_map<std::string, int64_t> line_of_name_;
};

}  // namespace

absl::StatusOr<std::vector<FileJob>> ParseApplyFile(const CommandContext& context,
                                                    absl::string_view text,
                                                    const std::string& subject) {
  if (text.size() > kApplyFileBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, " has more than ", kApplyFileBytesMax, " bytes, want fewer"));
  }
  DW_ASSIGN_OR_RETURN(const YamlNode root, ParseYaml(text, subject));
  return FileReader(context, subject).Read(root);
}

}  // namespace deltaworks::services
