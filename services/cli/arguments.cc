#include "services/cli/arguments.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "services/base/json_escape.h"

namespace deltaworks::services {
namespace {

bool ParseSwitch(const std::string& text, bool& value) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "true" || lower == "1") return value = true, true;
  if (lower == "false" || lower == "0") return value = false, true;
  return false;
}

template <typename T, typename Parse>
Argument MakeFlag(const std::string& name, const std::string& help, const std::string& value_name,
                  const std::string& want, T* value, Parse parse) {
  Argument argument;
  argument.name = name;
  argument.help = help;
  argument.value_name = value_name;
  argument.want = want;
  argument.set = [value, parse](const std::string& text) { return parse(text, *value); };
  return argument;
}

bool SetText(const std::string& text, std::string& value) {
  value = text;
  return true;
}

bool AppendText(const std::string& text, std::vector<std::string>& value) {
  value.push_back(text);
  return true;
}

// Parses into an optional, which stays as it was if the text does not parse.
template <typename T, typename Parse>
bool SetOptional(const std::string& text, std::optional<T>& value, Parse parse) {
  T got{};
  if (!parse(text, &got)) return false;
  value = got;
  return true;
}

}  // namespace

Argument& Arguments::Add(Argument argument) {
  for (const Argument& other : all_) {
    CHECK(other.name != argument.name) << argument.name << " is declared twice";
  }
  argument.section = section_;
  all_.push_back(std::move(argument));
  return all_.back();
}

Argument& Arguments::Flag(const std::string& name, std::string* value, const std::string& help) {
  return Add(MakeFlag(name, help, "TEXT", "a text", value, SetText));
}

Argument& Arguments::Flag(const std::string& name, std::optional<std::string>* value,
                          const std::string& help) {
  return Add(MakeFlag(name, help, "TEXT", "a text", value,
                      [](const std::string& text, std::optional<std::string>& target) {
                        target = text;
                        return true;
                      }));
}

Argument& Arguments::Flag(const std::string& name, int64_t* value, const std::string& help) {
  return Add(
      MakeFlag(name, help, "INT", "an integer", value,
               [](const std::string& text, int64_t& got) { return absl::SimpleAtoi(text, &got); }));
}

Argument& Arguments::Flag(const std::string& name, std::optional<int64_t>* value,
                          const std::string& help) {
  return Add(MakeFlag(name, help, "INT", "an integer", value,
                      [](const std::string& text, std::optional<int64_t>& target) {
                        return SetOptional(text, target, [](const std::string& t, int64_t* got) {
                          return absl::SimpleAtoi(t, got);
                        });
                      }));
}

Argument& Arguments::Flag(const std::string& name, double* value, const std::string& help) {
  return Add(
      MakeFlag(name, help, "NUMBER", "a number", value,
               [](const std::string& text, double& got) { return absl::SimpleAtod(text, &got); }));
}

Argument& Arguments::Flag(const std::string& name, std::optional<double>* value,
                          const std::string& help) {
  return Add(MakeFlag(name, help, "NUMBER", "a number", value,
                      [](const std::string& text, std::optional<double>& target) {
                        return SetOptional(text, target, [](const std::string& t, double* got) {
                          return absl::SimpleAtod(t, got);
                        });
                      }));
}

Argument& Arguments::Flag(const std::string& name, absl::Duration* value, const std::string& help) {
  return Add(MakeFlag(name, help, "DURATION", "a duration (500ms, 20s, 1h30m)", value,
                      [](const std::string& text, absl::Duration& got) {
                        return absl::ParseDuration(text, &got);
                      }));
}

Argument& Arguments::Flag(const std::string& name, std::vector<std::string>* value,
                          const std::string& help) {
  Argument& argument = Add(MakeFlag(name, help, "TEXT,...", "a list", value, AppendText));
  argument.is_list = true;
  return argument;
}

Argument& Arguments::Flag(const std::string& name, std::map<std::string, std::string>* value,
                          const std::string& help) {
  Argument& argument =
      Add(MakeFlag(name, help, "KEY=VALUE,...", "KEY=VALUE", value,
                   [](const std::string& text, std::map<std::string, std::string>& target) {
                     const std::vector<std::string> parts =
                         absl::StrSplit(text, absl::MaxSplits('=', 1));
                     if (parts.size() != 2 || parts[0].empty()) return false;
                     target[parts[0]] = parts[1];
                     return true;
                   }));
  argument.is_list = true;
  return argument;
}

Argument& Arguments::Flag(const std::string& name, bool* value, const std::string& help) {
  Argument& argument = Add(MakeFlag(name, help, "", "true or false", value, ParseSwitch));
  argument.is_switch = true;
  return argument;
}

Argument& Arguments::Flag(const std::string& name, std::optional<bool>* value,
                          const std::string& help) {
  Argument& argument =
      Add(MakeFlag(name, help, "", "true or false", value,
                   [](const std::string& text, std::optional<bool>& target) {
                     return SetOptional(text, target, [](const std::string& t, bool* got) {
                       return ParseSwitch(t, *got);
                     });
                   }));
  argument.is_switch = true;
  return argument;
}

Argument& Arguments::Positional(const std::string& name, std::string* value,
                                const std::string& help) {
  Argument& argument = Add(MakeFlag(name, help, name, "a text", value, SetText));
  argument.is_positional = true;
  argument.is_required = true;
  return argument;
}

Argument& Arguments::Positional(const std::string& name, std::vector<std::string>* value,
                                const std::string& help) {
  Argument& argument = Add(MakeFlag(name, help, name, "a text", value, AppendText));
  argument.is_positional = true;
  argument.is_required = true;
  argument.is_list = true;
  return argument;
}

std::string Spelled(const Argument& argument) {
  return argument.is_positional ? argument.name : absl::StrCat("--", argument.name);
}

absl::Status SetArgument(const Argument& argument, const std::vector<std::string>& values) {
  std::vector<std::string> single = values;
  if (argument.is_list && !argument.is_positional && argument.splits) {
    single.clear();
    for (const std::string& value : values) {
      for (absl::string_view part : absl::StrSplit(value, ',', absl::SkipEmpty())) {
        single.emplace_back(part);
      }
    }
  } else if (!argument.is_list && values.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(Spelled(argument), " is given ", values.size(), " times, want once"));
  }
  for (const std::string& value : single) {
    bool is_choice = argument.choices.empty();
    for (const std::string& choice : argument.choices) is_choice |= choice == value;
    const std::string want = argument.choices.empty()
                                 ? argument.want
                                 : absl::StrCat("one of ", absl::StrJoin(argument.choices, ", "));
    if (!is_choice || !argument.set(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Spelled(argument), " is ", JsonQuote(value), ", want ", want));
    }
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
