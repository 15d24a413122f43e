#include "services/base/flags.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"
#include "services/base/json_escape.h"
#include "services/base/version.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using Values = std::vector<std::string>;

// Takes what was given; false if it does not parse.
using Setter = std::function<bool(const Values&)>;

struct Flag {
  CLI::Option* option = nullptr;
  std::string environment;
  std::string want;  // "an integer"
  Setter set;
  bool is_list = false;
};

bool ParseBool(const std::string& text, bool& value) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "true" || lower == "1" || lower == "yes" || lower == "on")
    value = true;
  else if (lower == "false" || lower == "0" || lower == "no" || lower == "off")
    value = false;
  else
    return false;
  return true;
}

}  // namespace

struct FlagSet::State {
  State(const std::string& service, const std::string& description)
      : service(service), app(description, absl::StrCat("deltaworks ", service)) {
    app.set_version_flag("--version", absl::StrCat("deltaworks ", service, " ", BuildVersion()));
    app.add_option("--config", config, "TOML or INI file with values for these flags")
        ->type_name("PATH");
    app.footer(absl::StrCat("Each flag may also be given as an environment variable (",
                            EnvironmentName("flag"),
                            ") or in the file named by --config. The "
                            "command line comes first, then the environment, then the file."));
  }

  std::string EnvironmentName(const std::string& flag) const {
    return absl::AsciiStrToUpper(absl::StrCat("deltaworks_", service, "_", flag));
  }

  Flag& AddFlag(const std::string& name, const std::string& help, const std::string& type,
                const std::string& default_text, bool is_switch) {
    CHECK(flags.find(name) == flags.end()) << "flag " << name << " is added twice";
    Flag& flag = flags[name];
    flag.environment = EnvironmentName(name);
    const std::string text = absl::StrCat(
        help, default_text.empty() ? "" : absl::StrCat(" (default ", default_text, ")"));
    if (is_switch) {
      flag.option = app.add_flag(absl::StrCat("--", name), text);
    } else {
      flag.option = app.add_option(absl::StrCat("--", name), given[name], text)->type_name(type);
      flag.option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    return flag;
  }

  // `where` tells which place the values come from.
  absl::Status Set(const Flag& flag, const Values& values, const std::string& where) {
    if (flag.set(values)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is ", JsonQuote(absl::StrJoin(values, ",")), ", want ", flag.want));
  }

  absl::StatusOr<std::map<std::string, Values>> ReadConfig() const;
  absl::Status Resolve();

  const std::string service;
  CLI::App app;
  std::string config;
  std::string output;
  std::map<std::string, Flag> flags;
  std::map<std::string, Values> given;  // CLI11's place for results; the setters read the options.
};

FlagSet::FlagSet(const std::string& service, const std::string& description)
    : state_(std::make_unique<State>(service, description)) {}
FlagSet::~FlagSet() = default;

const std::string& FlagSet::output() const { return state_->output; }

void FlagSet::Add(const std::string& name, std::string* value, const std::string& help) {
  Flag& flag = state_->AddFlag(name, help, "TEXT", *value, /*is_switch=*/false);
  flag.want = "one text";
  flag.set = [value](const Values& values) {
    if (values.size() != 1) return false;
    *value = values[0];
    return true;
  };
}

void FlagSet::Add(const std::string& name, int64_t* value, const std::string& help) {
  Flag& flag = state_->AddFlag(name, help, "INT", absl::StrCat(*value), /*is_switch=*/false);
  flag.want = "an integer";
  flag.set = [value](const Values& values) {
    return values.size() == 1 && absl::SimpleAtoi(values[0], value);
  };
}

void FlagSet::Add(const std::string& name, double* value, const std::string& help) {
  Flag& flag = state_->AddFlag(name, help, "NUMBER", JsonNumber(*value), /*is_switch=*/false);
  flag.want = "a number";
  flag.set = [value](const Values& values) {
    return values.size() == 1 && absl::SimpleAtod(values[0], value);
  };
}

void FlagSet::Add(const std::string& name, bool* value, const std::string& help) {
  Flag& flag = state_->AddFlag(name, help, "", *value ? "true" : "false", /*is_switch=*/true);
  flag.want = "true or false";
  flag.set = [value](const Values& values) {
    return !values.empty() && ParseBool(values.back(), *value);
  };
}

void FlagSet::Add(const std::string& name, absl::Duration* value, const std::string& help) {
  Flag& flag =
      state_->AddFlag(name, help, "DURATION", absl::FormatDuration(*value), /*is_switch=*/false);
  flag.want = "a duration, such as 500ms, 20s or 1h30m";
  flag.set = [value](const Values& values) {
    return values.size() == 1 && absl::ParseDuration(values[0], value) &&
           *value >= absl::ZeroDuration();
  };
}

void FlagSet::Add(const std::string& name, std::vector<std::string>* value,
                  const std::string& help) {
  Flag& flag = state_->AddFlag(name, help, "TEXT", absl::StrJoin(*value, ","), /*is_switch=*/false);
  flag.option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  flag.is_list = true;
  flag.want = "a list";
  flag.set = [value](const Values& values) {
    *value = values;
    return true;
  };
}

absl::StatusOr<std::map<std::string, Values>> FlagSet::State::ReadConfig() const {
  std::map<std::string, Values> values;
  if (config.empty()) return values;
  std::ifstream stream(config);
  if (!stream)
    return absl::InvalidArgumentError(absl::StrCat("config is ", config, ": not readable"));
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigTOML().from_config(stream);
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(absl::StrCat("config is ", config, ": ", error.what()));
  }
  // The top level first, so that the service's own section replaces it.
  for (const bool own_section : {false, true}) {
    for (const CLI::ConfigItem& item : items) {
      if (item.name == "++" || item.name == "--") continue;  // Begin and end of a section.
      const bool own = item.parents == std::vector<std::string>{service};
      if (own_section ? !own : !item.parents.empty()) continue;
      if (flags.find(item.name) == flags.end()) {
        // The top level is shared by all services, so it may name flags of another one.
        if (!own_section) continue;
        return absl::InvalidArgumentError(absl::StrCat("config ", config, ": [", service, "] has ",
                                                       item.name,
                                                       ", which is no flag of this program"));
      }
      values[item.name] = item.inputs;
    }
  }
  return values;
}

absl::Status FlagSet::State::Resolve() {
  if (const char* text = std::getenv(EnvironmentName("config").c_str());
      text != nullptr && config.empty()) {
    config = text;
  }
  DW_ASSIGN_OR_RETURN(const auto from_file, ReadConfig());
  for (const auto& [name, flag] : flags) {
    const char* const text = std::getenv(flag.environment.c_str());
    if (flag.option->count() > 0) {
      DW_RETURN_IF_ERROR(Set(flag, flag.option->results(), absl::StrCat("--", name)));
    } else if (text != nullptr) {
      const Values values =
          flag.is_list ? Values(absl::StrSplit(text, ',', absl::SkipEmpty())) : Values{text};
      DW_RETURN_IF_ERROR(Set(flag, values, flag.environment));
    } else if (const auto found = from_file.find(name); found != from_file.end()) {
      DW_RETURN_IF_ERROR(Set(flag, found->second, absl::StrCat("config ", config, ": ", name)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> FlagSet::Parse(int argc, const char* const* argv) {
  // CLI11 takes the argument that follows as the value of "--name=", which means the empty one.
  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) {
    const absl::string_view argument = argv[i];
    if (absl::StartsWith(argument, "--") && argument.find('=') == argument.size() - 1) {
      arguments.emplace_back();
      arguments.emplace_back(argument.substr(0, argument.size() - 1));
    } else {
      arguments.emplace_back(argument);
    }
  }
  try {
    state_->app.parse(std::move(arguments));  // Wants the last argument first.
  } catch (const CLI::Success& success) {
    std::ostringstream out;
    state_->app.exit(success, out, out);
    state_->output = out.str();
    return false;
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), " (--help lists the flags)"));
  }
  DW_RETURN_IF_ERROR(state_->Resolve());
  return true;
}

}  // namespace deltaworks::services
