#include "trainer/tokenizer/tokenizer_json_parts.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/unicode_additions.h"

namespace deltaworks::trainer::tokenizer_json {
namespace {

// The entries of a list, a Sequence within a Sequence opened, in order.
absl::Status Flatten(const Json& component, absl::string_view part, const std::string& list_name,
                     std::vector<const Json*>* entries) {
  if (!component.is_object() || !component.contains("type") || component["type"] != "Sequence") {
    if (entries->size() == kPreTokenizerStepsMax) {
      return Invalid(absl::StrCat(part, " has more than ", kPreTokenizerStepsMax, " steps"));
    }
    entries->push_back(&component);
    return absl::OkStatus();
  }
  if (!component.contains(list_name) || !component[list_name].is_array()) {
    return Invalid(absl::StrCat(part, ": a Sequence has no list ", list_name));
  }
  for (const Json& entry : component[list_name]) {
    DW_RETURN_IF_ERROR(Flatten(entry, part, list_name, entries));
  }
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizerStep> ReadDigits(const Json& digits) {
  PreTokenizerStep step;
  step.pattern = absl::StrCat("[\\p{N}", kLaterNumerics, "]");
  DW_ASSIGN_OR_RETURN(const bool individual,
                      JsonBool(digits, "individual_digits", Where("pre_tokenizer Digits")));
  step.behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  return step;
}

absl::StatusOr<PreTokenizerStep> ReadByteLevel(const Json& byte_level) {
  const std::string subject = Where("pre_tokenizer ByteLevel");
  PreTokenizerStep step;
  step.kind = PreTokenizerStep::Kind::kByteLevel;
  DW_ASSIGN_OR_RETURN(step.add_prefix_space, JsonBool(byte_level, "add_prefix_space", subject));
  DW_ASSIGN_OR_RETURN(step.use_regex, BoolOr(byte_level, "use_regex", subject, true));
  return step;
}

absl::StatusOr<SplitBehavior> ReadBehavior(const Json& split, const std::string& subject) {
  constexpr std::pair<absl::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  DW_ASSIGN_OR_RETURN(const std::string name, JsonString(split, "behavior", subject));
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) return behavior;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(subject, ": behavior is ", Shown(name),
                   ", want Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous"));
}

absl::StatusOr<PreTokenizerStep> ReadSplit(const Json& split) {
  const std::string subject = Where("pre_tokenizer Split");
  PreTokenizerStep step;
  if (!JsonHas(split, "pattern")) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": pattern is absent, want {\"Regex\": ..} or {\"String\": ..}"));
  }
  const Json& pattern = split["pattern"];
  step.pattern_is_literal = JsonHas(pattern, "String");
  DW_ASSIGN_OR_RETURN(step.pattern,
                      JsonString(pattern, step.pattern_is_literal ? "String" : "Regex",
                                 absl::StrCat(subject, ": pattern")));
  DW_ASSIGN_OR_RETURN(step.invert, BoolOr(split, "invert", subject, false));
  DW_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(split, subject));
  return step;
}

// The ids that the template puts on one side of the text.
absl::Status ReadTemplateToken(const Json& special, const Json& special_tokens, const TokenIds& ids,
                               std::vector<int32_t>* side) {
  const std::string subject = Where("post_processor TemplateProcessing");
  DW_ASSIGN_OR_RETURN(const std::string name, JsonString(special, "id", subject));
  if (!JsonHas(special_tokens, name) || !JsonHas(special_tokens[name], "ids") ||
      !special_tokens[name]["ids"].is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": special_tokens has no ids for ", Shown(name)));
  }
  for (const Json& value : special_tokens[name]["ids"]) {
    DW_ASSIGN_OR_RETURN(const int32_t id, CheckedId(value, name));
    const bool known =
        std::any_of(ids.begin(), ids.end(), [id](const auto& entry) { return entry.second == id; });
    if (!known) {
      return absl::InvalidArgumentError(
          absl::StrCat(subject, ": ", Shown(name), " is id ", id, ", which no token has"));
    }
    if (side->size() == kPreTokenizerStepsMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(subject, ": more than ", kPreTokenizerStepsMax, " tokens on one side"));
    }
    side->push_back(id);
  }
  return absl::OkStatus();
}

// "single": a list of {"SpecialToken": {"id": ..}} around one {"Sequence": {"id": "A"}}.
absl::Status ReadTemplate(const Json& processor, const TokenIds& ids, TokenizerSpec* spec) {
  const absl::string_view part = "post_processor TemplateProcessing";
  if (!JsonHas(processor, "single") || !processor["single"].is_array()) {
    return Invalid(absl::StrCat(part, ": single is absent or no list"));
  }
  const Json special_tokens = processor.value("special_tokens", Json::object());
  bool after_text = false;
  for (const Json& piece : processor["single"]) {
    if (JsonHas(piece, "SpecialToken")) {
      DW_RETURN_IF_ERROR(ReadTemplateToken(piece["SpecialToken"], special_tokens, ids,
                                           after_text ? &spec->suffix_ids : &spec->prefix_ids));
    } else if (JsonHas(piece, "Sequence") && !after_text) {
      after_text = true;
    } else {
      return Invalid(absl::StrCat(part, ": single has ", Shown(piece),
                                  ", want SpecialToken entries around one Sequence"));
    }
  }
  if (!after_text) return Invalid(absl::StrCat(part, ": single has no Sequence"));
  return absl::OkStatus();
}

}  // namespace

absl::Status Invalid(absl::string_view message) {
  return absl::InvalidArgumentError(Where(message));
}

std::string Where(absl::string_view part) { return absl::StrCat("tokenizer.json: ", part); }

std::string Shown(const Json& value) {
  std::string text = JsonText(value);
  if (text.size() > 60) text = absl::StrCat(text.substr(0, 60), "...");
  return text;
}

absl::StatusOr<std::string> Type(const Json& component, absl::string_view part,
                                 const std::vector<absl::string_view>& supported) {
  DW_ASSIGN_OR_RETURN(std::string type, JsonString(component, "type", Where(part)));
  if (std::find(supported.begin(), supported.end(), type) == supported.end()) {
    return Invalid(absl::StrCat(part, " is of type ", Shown(type),
                                ", supported: ", absl::StrJoin(supported, ", ")));
  }
  return type;
}

absl::StatusOr<bool> BoolOr(const Json& object, const std::string& name, absl::string_view subject,
                            bool absent) {
  if (!JsonHas(object, name)) return absent;
  return JsonBool(object, name, subject);
}

absl::StatusOr<int32_t> CheckedId(const Json& value, absl::string_view token) {
  if (!value.is_number_integer() || value < 0 || value > kTokenIdMax) {
    return Invalid(absl::StrCat("the id of token ", Shown(std::string(token)), " is ", Shown(value),
                                ", want 0..", kTokenIdMax));
  }
  return value.get<int32_t>();
}

absl::Status ReadNormalizer(const Json& normalizer, TokenizerSpec* spec) {
  std::vector<const Json*> steps;
  DW_RETURN_IF_ERROR(Flatten(normalizer, "normalizer", "normalizers", &steps));
  for (const Json* step : steps) {
    DW_RETURN_IF_ERROR(Type(*step, "normalizer", {"NFC", "Sequence"}).status());
    spec->nfc = true;
  }
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const Json& pre_tokenizer, TokenizerSpec* spec) {
  std::vector<const Json*> entries;
  DW_RETURN_IF_ERROR(Flatten(pre_tokenizer, "pre_tokenizer", "pretokenizers", &entries));
  for (const Json* entry : entries) {
    DW_ASSIGN_OR_RETURN(const std::string type, Type(*entry, "pre_tokenizer",
                                                     {"ByteLevel", "Digits", "Split", "Sequence"}));
    if (!spec->pre_tokenizer.empty() &&
        spec->pre_tokenizer.back().kind == PreTokenizerStep::Kind::kByteLevel) {
      return Invalid(absl::StrCat("pre_tokenizer has ", type,
                                  " after ByteLevel, want ByteLevel as the last step"));
    }
    DW_ASSIGN_OR_RETURN(PreTokenizerStep step, type == "Digits"  ? ReadDigits(*entry)
                                               : type == "Split" ? ReadSplit(*entry)
                                                                 : ReadByteLevel(*entry));
    spec->pre_tokenizer.push_back(std::move(step));
  }
  return absl::OkStatus();
}

absl::Status ReadPostProcessor(const Json& post_processor, const TokenIds& ids,
                               TokenizerSpec* spec) {
  std::vector<const Json*> entries;
  DW_RETURN_IF_ERROR(Flatten(post_processor, "post_processor", "processors", &entries));
  bool has_template = false;
  for (const Json* entry : entries) {
    DW_ASSIGN_OR_RETURN(
        const std::string type,
        Type(*entry, "post_processor", {"ByteLevel", "TemplateProcessing", "Sequence"}));
    if (type == "ByteLevel") continue;  // Moves offsets only.
    if (has_template) return Invalid("post_processor has two TemplateProcessing, want one");
    has_template = true;
    DW_RETURN_IF_ERROR(ReadTemplate(*entry, ids, spec));
  }
  return absl::OkStatus();
}

absl::Status ReadDecoder(const Json& decoder) {
  std::vector<const Json*> entries;
  DW_RETURN_IF_ERROR(Flatten(decoder, "decoder", "decoders", &entries));
  if (entries.size() != 1) {
    return Invalid(absl::StrCat("decoder has ", entries.size(), " steps, want one ByteLevel"));
  }
  return Type(*entries[0], "decoder", {"ByteLevel", "Sequence"}).status();
}

}  // namespace deltaworks::trainer::tokenizer_json
