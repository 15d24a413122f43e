// Arguments: what a command may be given, as data. Read by the parser, --help, the completion
// scripts and the tests.
//
// A flag's name is lower_snake_case, as PEFT and Hugging Face write theirs; `--lora-alpha` and
// `--lora_alpha` are the same. Values are parsed as they are set; one that does not parse is an
// error that says flag, got and want. An optional stays empty if the flag is absent. A list is
// given by repeating the flag or, unless its values are WholeValues(), with commas.
//
//   arguments.Positional("PATH", &path_, "JSONL file");
//   arguments.Flag("rank", &rank_, "rank of A and B (default 8)").Alias("r");
//   arguments.Flag("form", &form_, "number type").Choices({"bf16", "f32"});
//
// Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_ARGUMENTS_H_
#define DELTAWORKS_SERVICES_CLI_ARGUMENTS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace deltaworks::services {

// What the word after a flag, or a positional one, names; completion scripts use it.
enum class ValueKind { kText, kFile, kFolder };

struct Argument {
  std::string name;
  std::vector<std::string> aliases;  // Further names; one letter is spelled "-r" as well.
  std::string help;
  std::string value_name;            // "INT"; empty for a switch.
  std::vector<std::string> choices;  // If any, nothing else is taken.
  ValueKind kind = ValueKind::kText;
  std::string section;  // Heading in --help; empty: the first.
  bool is_positional = false;
  bool is_switch = false;
  bool is_list = false;
  bool splits = true;  // Of a list that is a flag: at commas.
  bool is_required = false;
  // Takes one value; false if it does not parse as `want`.
  std::function<bool(const std::string&)> set;
  std::string want;

  Argument& Alias(std::string alias) {
    aliases.push_back(std::move(alias));
    return *this;
  }
  Argument& Choices(std::vector<std::string> values) {
    choices = std::move(values);
    return *this;
  }
  Argument& Kind(ValueKind value) {
    kind = value;
    return *this;
  }
  Argument& ValueName(std::string text) {
    value_name = std::move(text);
    return *this;
  }
  // Of a list: a comma is part of a value.
  Argument& WholeValues() {
    splits = false;
    return *this;
  }
  // Of a flag: must be given. Of a positional: may be left out.
  Argument& Required() {
    is_required = true;
    return *this;
  }
  Argument& Optional() {
    is_required = false;
    return *this;
  }
};

class Arguments {
 public:
  // Of the flags that follow.
  void Section(std::string heading) { section_ = std::move(heading); }

  // `value` holds the default and must outlive the parsing.
  Argument& Flag(const std::string& name, std::string* value, const std::string& help);
  Argument& Flag(const std::string& name, int64_t* value, const std::string& help);
  Argument& Flag(const std::string& name, double* value, const std::string& help);
  Argument& Flag(const std::string& name, absl::Duration* value, const std::string& help);
  Argument& Flag(const std::string& name, std::vector<std::string>* value, const std::string& help);
  Argument& Flag(const std::string& name, std::optional<std::string>* value,
                 const std::string& help);
  Argument& Flag(const std::string& name, std::optional<int64_t>* value, const std::string& help);
  Argument& Flag(const std::string& name, std::optional<double>* value, const std::string& help);
  // KEY=VALUE, as a list.
  Argument& Flag(const std::string& name, std::map<std::string, std::string>* value,
                 const std::string& help);
  // A switch: present is true; "--name=false" is taken too.
  Argument& Flag(const std::string& name, bool* value, const std::string& help);
  Argument& Flag(const std::string& name, std::optional<bool>* value, const std::string& help);

  // In the order of the calls, required unless Optional().
  Argument& Positional(const std::string& name, std::string* value, const std::string& help);
  // The rest of the words; last, at least one unless Optional().
  Argument& Positional(const std::string& name, std::vector<std::string>* value,
                       const std::string& help);

  const std::deque<Argument>& all() const { return all_; }

 private:
  Argument& Add(Argument argument);

  std::string section_;
  std::deque<Argument> all_;  // A deque: references stay valid.
};

// Sets `argument` from the values given for it. InvalidArgument: flag, got, want.
absl::Status SetArgument(const Argument& argument, const std::vector<std::string>& values);

// "--lora_alpha", or the name itself for a positional one.
std::string Spelled(const Argument& argument);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ARGUMENTS_H_
