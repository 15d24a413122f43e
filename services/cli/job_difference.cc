#include "services/cli/job_difference.h"

#include <map>
#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "scheduler/job_spec.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"

namespace deltaworks::services {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

// Which fields count: those that the file says, or those that the job has.
enum class Scope { kFile, kJob };

std::string ValueText(const Message& message, const FieldDescriptor& field, int index) {
  std::string text;
  TextFormat::PrintFieldValueToString(message, &field, index, &text);
  return text;
}

std::map<std::string, std::string> MapTexts(const Message& message, const FieldDescriptor& field) {
  std::map<std::string, std::string> texts;
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    const auto& type = *field.message_type();
    texts[entry.GetReflection()->GetString(entry, type.map_key())] =
        ValueText(entry, *type.map_value(), -1);
  }
  return texts;
}

// Empty for an empty list.
std::string ListText(const Message& message, const FieldDescriptor& field) {
  std::vector<std::string> texts;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    texts.push_back(ValueText(message, field, i));
  }
  return absl::StrJoin(texts, ", ");
}

class Comparison {
 public:
  explicit Comparison(Scope scope) : scope_(scope) {}

  void Compare(const Message& file, const Message& job, const std::string& prefix) {
    for (int i = 0; i < file.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor& field = *file.GetDescriptor()->field(i);
      const std::string name = absl::StrCat(prefix, field.name());
      if (field.is_map()) {
        CompareMaps(MapTexts(file, field), MapTexts(job, field), name);
      } else if (field.is_repeated()) {
        Note(name, ListText(file, field), ListText(job, field));
      } else if (field.message_type() != nullptr) {
        Compare(file.GetReflection()->GetMessage(file, &field),
                job.GetReflection()->GetMessage(job, &field), absl::StrCat(name, "."));
      } else {
        Note(name, SetText(file, field), SetText(job, field));
      }
    }
  }

  std::vector<FieldDifference> Take() { return std::move(found_); }

 private:
  // Empty if it is not set.
  static std::string SetText(const Message& message, const FieldDescriptor& field) {
    return message.GetReflection()->HasField(message, &field) ? ValueText(message, field, -1) : "";
  }

  void CompareMaps(std::map<std::string, std::string> file, std::map<std::string, std::string> job,
                   const std::string& name) {
    std::set<std::string> keys;
    for (const auto* side : {&file, &job}) {
      for (const auto& [key, value] : *side) keys.insert(key);
    }
    for (const std::string& key : keys) {
      Note(absl::StrCat(name, "[", JsonQuote(key), "]"), file[key], job[key]);
    }
  }

  void Note(const std::string& field, const std::string& file, const std::string& job) {
    if (file == job || (scope_ == Scope::kFile ? file : job).empty()) return;
    found_.push_back({field, file, job});
  }

  const Scope scope_;
  std::vector<FieldDifference> found_;
};

// What the owner said of it.
v1::Job OwnersPart(v1::Job job) {
  scheduler::ClearOutputOnly(&job);
  job.mutable_labels()->erase(kApplyLabel);
  return job;
}

std::vector<FieldDifference> Differences(const v1::Job& file, const v1::Job& job, Scope scope) {
  Comparison comparison(scope);
  comparison.Compare(OwnersPart(file), OwnersPart(job), "");
  return comparison.Take();
}

}  // namespace

JobDifference DifferenceOf(const FileJob& file, const v1::Job& job) {
  const auto digest = job.labels().find(kApplyLabel);
  const bool has_digest = digest != job.labels().end();
  if (has_digest && digest->second == file.job.labels().at(kApplyLabel)) return {};
  JobDifference difference{.fields = Differences(file.job, job, Scope::kFile)};
  if (!has_digest && difference.fields.empty()) return difference;
  difference.differs = true;
  if (difference.fields.empty()) {
    // What the file no longer says has the default by now.
    const absl::StatusOr<v1::Job> completed =
        scheduler::CompleteJob(file.job, TenantOf(job.name()), file.id);
    if (completed.ok()) difference.fields = Differences(*completed, job, Scope::kJob);
    for (FieldDifference& field : difference.fields) field.file.clear();
  }
  return difference;
}

}  // namespace deltaworks::services
