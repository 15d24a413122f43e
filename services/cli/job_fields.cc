#include "services/cli/job_fields.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/base/json_escape.h"
#include "services/cli/enum_text.h"
#include "services/cli/help.h"
#include "services/cli/job_submit.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using Kind = YamlNode::Kind;

constexpr size_t kShownBytesMax = 100;

// Fields that hold the name of a resource, and what makes an id one.
using Resolver = absl::StatusOr<std::string> (*)(const CommandContext&, const std::string&,
                                                 const std::string&);
const std::map<std::string, Resolver>& NameFields() {
  static const auto& fields = *new std::map<std::string, Resolver>{
      {"parent_job", JobName},
      {"train.adapter", AdapterName},
      {"train.base_model", BaseModelName},
      {"train.dataset", DatasetName},
      {"train.validation_dataset", DatasetName},
  };
  return fields;
}

// "rank" of "r": as `dw job submit` declares it.
std::string Unaliased(const std::string& key) {
  static const auto& names = *[] {
    auto* names = new std::map<std::string, std::string>;
    Arguments arguments;
    const std::unique_ptr<Command> submit = MakeJobSubmit();
    submit->Declare(arguments);
    for (const Argument& argument : arguments.all()) {
      for (const std::string& alias : argument.aliases) (*names)[alias] = argument.name;
    }
    return names;
  }();
  const auto found = names.find(key);
  return found == names.end() ? key : found->second;
}

// What the scheduler writes (job.proto), and the name, which is given otherwise.
bool IsOutputOnly(const FieldDescriptor& field) {
  return field.containing_type() == v1::Job::descriptor() &&
         (field.number() == v1::Job::kNameFieldNumber ||
          field.number() >= v1::Job::kStatusFieldNumber);
}

bool IsMessage(const FieldDescriptor& field) {
  return field.message_type() != nullptr && !field.is_map();
}

const FieldDescriptor* FindField(const Descriptor& message, const std::string& key) {
  const FieldDescriptor* field = message.FindFieldByName(key);
  if (field == nullptr) field = message.FindFieldByCamelcaseName(key);
  if (field == nullptr) field = message.FindFieldByName(Unaliased(key));
  return field == nullptr || IsOutputOnly(*field) ? nullptr : field;
}

// The fields from `message` down to the one that `key` names; empty if there is none. Names are
// unique in a job, for each is a flag.
std::vector<const FieldDescriptor*> FindBelow(const Descriptor& message, const std::string& key) {
  if (const FieldDescriptor* field = FindField(message, key); field != nullptr) return {field};
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (!IsMessage(field) || IsOutputOnly(field)) continue;
    std::vector<const FieldDescriptor*> way = FindBelow(*field.message_type(), key);
    if (way.empty()) continue;
    way.insert(way.begin(), &field);
    return way;
  }
  return {};
}

std::vector<std::string> FieldNames(const Descriptor& message, bool below) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (IsOutputOnly(field)) continue;
    names.push_back(field.name());
    if (!below || !IsMessage(field)) continue;
    const std::vector<std::string> more = FieldNames(*field.message_type(), below);
    names.insert(names.end(), more.begin(), more.end());
  }
  return names;
}

std::string NoSuchField(const std::string& place, const std::string& key, const Descriptor& message,
                        bool below) {
  const std::vector<std::string> names = FieldNames(message, below);
  const std::string nearest = Nearest(key, names);
  return absl::StrCat(place, " has no field ", JsonQuote(key),
                      nearest.empty() ? absl::StrCat(", want one of ", absl::StrJoin(names, ", "))
                                      : absl::StrCat("; did you mean ", JsonQuote(nearest), "?"));
}

std::string WantOf(const FieldDescriptor& field) {
  if (field.enum_type() != nullptr) {
    return absl::StrCat("one of ", absl::StrJoin(EnumChoices(*field.enum_type()), ", "));
  }
  return field.cpp_type_name();
}

// Strings as they are written; values of enums as flags have them, too.
Json ScalarJsonFor(const FieldDescriptor& field, const YamlNode& node) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return node.text;
  if (field.enum_type() != nullptr) {
    const auto* value = FindEnumValue(*field.enum_type(), node.text);
    if (value != nullptr) return value->name();
  }
  return ScalarJson(node);
}

// {"train": {"lora": {"rank": value}}}, beside what is there.
void Put(const std::vector<std::string>& path, Json value, Json& document) {
  Json* at = &document;
  for (const std::string& name : path) at = &(*at)[name];
  *at = std::move(value);
}

}  // namespace

std::string JobFields::Where(const YamlNode& node) const {
  return absl::StrCat(subject_, ":", node.line, ": ");
}

absl::Status JobFields::Add(const YamlNode& member, const std::string& place) {
  const std::vector<const FieldDescriptor*> way = FindBelow(*v1::Job::descriptor(), member.key);
  if (way.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        Where(member), NoSuchField(place, member.key, *v1::Job::descriptor(), /*below=*/true)));
  }
  Path path;
  for (const FieldDescriptor* field : way) path.push_back(field->name());
  return AddField(*way.back(), member, std::move(path), absl::StrCat(place, ".", member.key));
}

absl::Status JobFields::AddField(const FieldDescriptor& field, const YamlNode& node, Path path,
                                 const std::string& place) {
  if (node.kind == Kind::kNull || (!IsMessage(field) && !field.is_map())) {
    return AddValue(field, node, path, place);
  }
  if (node.kind == Kind::kMap) return AddMembers(field, node, path, place);
  return absl::InvalidArgumentError(
      absl::StrCat(Where(node), place, " is ", KindText(node.kind), ", want a map"));
}

absl::Status JobFields::AddMembers(const FieldDescriptor& field, const YamlNode& node,
                                   const Path& path, const std::string& place) {
  const Descriptor& message = *field.message_type();
  for (const YamlNode& member : node.children) {
    const std::string member_place = absl::StrCat(place, ".", member.key);
    const FieldDescriptor* member_field =
        field.is_map() ? message.map_value() : FindField(message, member.key);
    if (member_field == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(Where(member), NoSuchField(place, member.key, message, /*below=*/false)));
    }
    Path member_path = path;
    member_path.push_back(field.is_map() ? member.key : member_field->name());
    DW_RETURN_IF_ERROR(AddField(*member_field, member, std::move(member_path), member_place));
  }
  return absl::OkStatus();
}

absl::Status JobFields::AddValue(const FieldDescriptor& field, const YamlNode& node,
                                 const Path& path, const std::string& place) {
  const bool is_list = field.is_repeated() && node.kind == Kind::kList;
  bool is_simple = node.kind == Kind::kScalar || node.kind == Kind::kNull || is_list;
  for (const YamlNode& item : node.children) is_simple &= item.kind == Kind::kScalar;
  if (!is_simple) {
    return absl::InvalidArgumentError(
        absl::StrCat(Where(node), place, " is ", KindText(node.kind), ", want ",
                     field.is_repeated() ? "a list of " : "", WantOf(field)));
  }
  const auto [first, is_new] = values_.emplace(path, Value{&field, &node});
  if (is_new) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(Where(node), place, " is said twice, in line ",
                                                 first->second.node->line, " too"));
}

void JobFields::Override(const JobFields& other) {
  const auto is_below = [](const Path& path, const Path& top) {
    return path.size() >= top.size() && std::equal(top.begin(), top.end(), path.begin());
  };
  for (const auto& [path, value] : other.values_) {
    if (value.node->kind != Kind::kNull) continue;
    auto it = values_.lower_bound(path);
    while (it != values_.end() && is_below(it->first, path)) it = values_.erase(it);
  }
  for (const auto& [path, value] : other.values_) values_.insert_or_assign(path, value);
}

absl::StatusOr<Json> JobFields::ValueJson(const CommandContext& context, const Path& path,
                                          const Value& value) const {
  const std::string field = absl::StrJoin(path, ".");
  if (const auto found = NameFields().find(field); found != NameFields().end()) {
    DW_ASSIGN_OR_RETURN(
        std::string name,
        found->second(context, absl::StrCat(Where(*value.node), field), value.node->text));
    return Json(std::move(name));
  }
  if (!value.field->is_repeated()) return ScalarJsonFor(*value.field, *value.node);
  Json list = Json::array();
  // One value is a list of one: `target_modules: all-linear`.
  if (value.node->kind == Kind::kScalar) list.push_back(ScalarJsonFor(*value.field, *value.node));
  for (const YamlNode& item : value.node->children) {
    list.push_back(ScalarJsonFor(*value.field, item));
  }
  return list;
}

absl::StatusOr<v1::Job> JobFields::ToJob(const CommandContext& context) const {
  Json document = Json::object();
  for (const auto& [path, value] : values_) {
    if (value.node->kind == Kind::kNull) continue;
    DW_ASSIGN_OR_RETURN(Json json, ValueJson(context, path, value));
    Put(path, std::move(json), document);
  }
  v1::Job job;
  const absl::Status status = ParseMessageJson(JsonText(document), subject_, job);
  if (!status.ok()) return WhichIsWrong(context, status);
  return job;
}

// Protobuf's parser knows no lines: each value alone tells which it was.
absl::Status JobFields::WhichIsWrong(const CommandContext& context,
                                     const absl::Status& otherwise) const {
  for (const auto& [path, value] : values_) {
    if (value.node->kind == Kind::kNull) continue;
    DW_ASSIGN_OR_RETURN(const Json json, ValueJson(context, path, value));
    Json document = Json::object();
    Put(path, json, document);
    v1::Job job;
    if (ParseMessageJson(JsonText(document), subject_, job).ok()) continue;
    return absl::InvalidArgumentError(absl::StrCat(Where(*value.node), absl::StrJoin(path, "."),
                                                   " is ", JsonText(json).substr(0, kShownBytesMax),
                                                   ", want ", WantOf(*value.field)));
  }
  return otherwise;
}

int64_t JobFields::LineOf(const std::string& field, int64_t otherwise) const {
  for (const auto& [path, value] : values_) {
    if (absl::StrJoin(path, ".") == field) return value.node->line;
  }
  return otherwise;
}

}  // namespace deltaworks::services
