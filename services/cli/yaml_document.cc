#include "services/cli/yaml_document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"

namespace deltaworks::services {
namespace {

// What stops the parser; never leaves this file.
struct Refusal : std::exception {
  Refusal(int64_t line, std::string message) : line(line), message(std::move(message)) {}
  int64_t line;
  std::string message;
};

int64_t LineOf(const YAML::Mark& mark) { return mark.is_null() ? 1 : int64_t{mark.line} + 1; }

class TreeBuilder final : public YAML::EventHandler {
 public:
  // The document, once it has ended.
  YamlNode Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (IsKey()) throw Refusal(LineOf(mark), "a key is null, want a text");
    Add(Begin(mark, "", YamlNode::Kind::kNull));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { RefuseAnchor(mark); }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { RefuseAnchor(mark); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    if (IsKey()) {
      CheckTag(mark, tag);
      Frame& map = open_.back();
      if (!map.keys.insert(value).second) {
        throw Refusal(LineOf(mark), absl::StrCat("the key ", JsonQuote(value), " is there twice"));
      }
      map.key = value;
      map.key_line = LineOf(mark);
      map.has_key = true;
      return;
    }
    YamlNode node = Begin(mark, tag, YamlNode::Kind::kScalar);
    node.text = value;
    node.quoted = tag == "!";
    Add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A list or map whose end has not come yet.
  struct Frame {
    YamlNode node;
    bool has_key = false;
    std::string key;
    int64_t key_line = 0;
    absl::flat_hash_set<std::string> keys;
  };

  bool IsKey() const {
    return !open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap &&
           !open_.back().has_key;
  }

  [[noreturn]] static void RefuseAnchor(const YAML::Mark& mark) {
    throw Refusal(LineOf(mark), "anchors (&) and aliases (*) are not taken");
  }

  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw Refusal(LineOf(mark), absl::StrCat("the tag ", JsonQuote(tag), " is not taken"));
  }

  YamlNode Begin(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind) {
    CheckTag(mark, tag);
    if (++nodes_ > kYamlNodesMax) {
      throw Refusal(LineOf(mark), absl::StrCat("more than ", kYamlNodesMax, " values"));
    }
    YamlNode node;
    node.kind = kind;
    node.line = LineOf(mark);
    return node;
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind) {
    if (IsKey()) throw Refusal(LineOf(mark), "a key is a list or a map, want a text");
    if (open_.size() == kYamlDepthMax) {
      throw Refusal(LineOf(mark), absl::StrCat("nested deeper than ", kYamlDepthMax, " levels"));
    }
    open_.push_back({.node = Begin(mark, tag, kind)});
  }

  void Close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    Add(std::move(node));
  }

  void Add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = open_.back();
    if (std::exchange(parent.has_key, false)) {
      node.key = std::move(parent.key);
      node.line = parent.key_line;
    }
    parent.node.children.push_back(std::move(node));
  }

  YamlNode root_;
  std::vector<Frame> open_;  // From the root on.
  int64_t nodes_ = 0;
};

// Throws at the first byte that is not UTF-8.
void CheckUtf8(absl::string_view text) {
  int64_t line = 1;
  // A line at a time: no byte of a longer sequence is a newline.
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    try {
      Json(std::string(text.substr(begin, end - begin))).dump();
    } catch (const Json::exception&) {
      throw Refusal(line, "a byte that is not UTF-8");
    }
    begin = end;
  }
}

YamlNode Parse(absl::string_view text) {
  CheckUtf8(text);
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  TreeBuilder builder;
  if (!parser.HandleNextDocument(builder)) return YamlNode{.line = 1};
  YamlNode root = builder.Take();
  TreeBuilder another;
  if (parser.HandleNextDocument(another)) {
    throw Refusal(another.Take().line, "a second document, want one");
  }
  return root;
}

// The digits after `prefix` as a number of this base.
bool ParseDigits(absl::string_view text, const char* prefix, int base, uint64_t& value) {
  if (!absl::StartsWith(text, prefix)) return false;
  const std::string digits(text.substr(2));
  if (digits.empty() || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return false;
  }
  char* end = nullptr;
  errno = 0;
  value = std::strtoull(digits.c_str(), &end, base);
  return errno == 0 && *end == '\0';
}

// The core schema's floats: digits with a point or exponent, nothing that SimpleAtod takes besides
// (inf, nan, hexadecimal).
bool IsNumber(absl::string_view text) {
  return text.find_first_not_of("+-.0123456789eE") == absl::string_view::npos &&
         text.find_first_of("0123456789") != absl::string_view::npos;
}

bool IsOneOf(absl::string_view text, absl::string_view lower) {
  // "true", "True" and "TRUE", but not "tRuE".
  return text == lower || text == absl::AsciiStrToUpper(lower) ||
         (!text.empty() && text[0] == absl::ascii_toupper(lower[0]) &&
          text.substr(1) == lower.substr(1));
}

}  // namespace

absl::StatusOr<YamlNode> ParseYaml(absl::string_view text, absl::string_view subject) {
  const auto wrong = [subject](int64_t line, absl::string_view message) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ":", line, ": ", message));
  };
  try {
    return Parse(text);
  } catch (const Refusal& refusal) {
    return wrong(refusal.line, refusal.message);
  } catch (const YAML::Exception& error) {
    return wrong(LineOf(error.mark), absl::StrCat("no YAML: ", error.msg));
  } catch (const std::exception& error) {
    return wrong(1, absl::StrCat("no YAML: ", error.what()));
  }
}

const char* KindText(YamlNode::Kind kind) {
  switch (kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "?";
}

Json ScalarJson(const YamlNode& scalar) {
  const std::string& text = scalar.text;
  if (scalar.quoted) return text;
  if (IsOneOf(text, "true")) return true;
  if (IsOneOf(text, "false")) return false;
  int64_t integer = 0;
  uint64_t natural = 0;
  double real = 0;
  if (IsNumber(text)) {
    if (absl::SimpleAtoi(text, &integer)) return integer;
    if (absl::SimpleAtoi(text, &natural)) return natural;
    if (absl::SimpleAtod(text, &real) && std::isfinite(real)) return real;
  }
  if (ParseDigits(text, "0x", 16, natural) || ParseDigits(text, "0o", 8, natural)) return natural;
  const absl::string_view unsigned_text = absl::StartsWith(text, "+") || absl::StartsWith(text, "-")
                                              ? absl::string_view(text).substr(1)
                                              : absl::string_view(text);
  if (unsigned_text == ".inf" || unsigned_text == ".Inf" || unsigned_text == ".INF") {
    return text[0] == '-' ? "-Infinity" : "Infinity";
  }
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return "NaN";
  return text;
}

}  // namespace deltaworks::services
