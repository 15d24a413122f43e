// YamlNode: a YAML document as a tree that remembers its lines. JSON is YAML, so it is read too.
//
// Scalars stay text: what a plain `007` or `no` means depends on the field that it is for, and only
// the reader knows that. Where the field is a string, take the text as it is written; elsewhere
// ScalarJson() has YAML 1.2's core schema, in which `yes`, `no` and `1:30` are texts.
//
// Refused, besides what is no YAML: anchors and aliases (ten lines of them unfold to gigabytes),
// tags, a key twice in one map, keys that are no scalars, more than one document. yaml-cpp does the
// parsing and is seen, with its exceptions, by yaml_document.cc only; it does not read the UTF-16
// pairs of JSON ("\ud83d\ude00"), which is an error here: write the character itself.
//
// Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_YAML_DOCUMENT_H_
#define DELTAWORKS_SERVICES_CLI_YAML_DOCUMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/base/json.h"

namespace deltaworks::services {

inline constexpr int64_t kYamlNodesMax = 1'000'000;
inline constexpr int64_t kYamlDepthMax = 64;

struct YamlNode {
  // kNull is a plain `null`, `~` or nothing at all.
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string key;      // Of a member of a map.
  std::string text;     // Of a scalar, without its quotes.
  bool quoted = false;  // In quotes, or a block: a text, whatever it looks like.
  int64_t line = 0;     // From 1; of a member of a map, the line of its key.
  std::vector<YamlNode> children;
};

// The document in `text`. InvalidArgument begins with "SUBJECT:LINE: ".
absl::StatusOr<YamlNode> ParseYaml(absl::string_view text, absl::string_view subject);

// "a list", for messages.
const char* KindText(YamlNode::Kind kind);

// A scalar by the core schema: true or false, a number, else its text. Numbers that JSON does not
// have, .inf and .nan, are the texts that protobuf JSON has for them.
Json ScalarJson(const YamlNode& scalar);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_YAML_DOCUMENT_H_
