#include "services/cli/parser.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "services/base/json_escape.h"
#include "services/base/version.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using Words = std::vector<std::string>;

// `--lora-alpha=8` as `--lora_alpha=8`; words after a lone `--` stay.
void UnderscoreFlags(Words& words) {
  for (std::string& word : words) {
    if (word == "--") return;
    if (!absl::StartsWith(word, "--")) continue;
    const size_t end = std::min(word.find('='), word.size());
    std::replace(word.begin() + 2, word.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  }
}

// The values of one argument as CLI11 collects them.
struct Slot {
  const Argument* argument = nullptr;
  Words values;
  CLI::Option* option = nullptr;
};

// An app for each group and command, their names chained: "job", "job submit".
class AppTree {
 public:
  explicit AppTree(const std::vector<DeclaredCommand>& commands, const Arguments& global)
      : root_("", "dw") {
    Prepare(root_);
    AddSlots(root_, global);
    for (const DeclaredCommand& command : commands) {
      CLI::App* app = &root_;
      std::string name;
      for (const std::string& word : command.words) {
        absl::StrAppend(&name, name.empty() ? "" : " ", word);
        app = Child(*app, word, name);
      }
      AddSlots(*app, global);
      AddSlots(*app, command.arguments);
      command_of_[app] = &command;
    }
  }

  CLI::App& root() { return root_; }

  // The deepest app that the line reached.
  CLI::App& Reached() {
    CLI::App* app = &root_;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return *app;
  }
  const DeclaredCommand* CommandOf(const CLI::App& app) const {
    const auto found = command_of_.find(&app);
    return found == command_of_.end() ? nullptr : found->second;
  }
  const std::string& NameOf(const CLI::App& app) { return name_of_[&app]; }
  std::deque<Slot>& SlotsOf(const CLI::App& app) { return slots_of_[&app]; }

 private:
  static void Prepare(CLI::App& app) {
    app.set_help_flag("--help,-h");
    app.set_version_flag("--version", BuildVersion());
    // What nobody takes is ours to complain about, with a suggestion.
    app.allow_extras();
    // After one, further words are values, even if a command has that name.
    app.require_subcommand(0, 1);
  }

  CLI::App* Child(CLI::App& parent, const std::string& word, const std::string& name) {
    CLI::App*& child = app_of_[name];
    if (child == nullptr) {
      child = parent.add_subcommand(word);
      Prepare(*child);
      name_of_[child] = name;
    }
    return child;
  }

  void AddSlots(CLI::App& app, const Arguments& arguments) {
    for (const Argument& argument : arguments.all()) {
      Slot& slot = slots_of_[&app].emplace_back();
      slot.argument = &argument;
      if (argument.is_switch) {
        slot.option = app.add_flag(Names(argument), slot.values);
      } else {
        slot.option = app.add_option(Names(argument), slot.values);
        if (argument.is_positional && argument.is_list) continue;
        slot.option->expected(1)->allow_extra_args(false);
      }
      slot.option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
  }

  static std::string Names(const Argument& argument) {
    if (argument.is_positional) return argument.name;
    std::string names = absl::StrCat("--", argument.name);
    for (const std::string& alias : argument.aliases) {
      absl::StrAppend(&names, ",--", alias);
      if (alias.size() == 1) absl::StrAppend(&names, ",-", alias);
    }
    return names;
  }

  CLI::App root_;
  std::map<std::string, CLI::App*> app_of_;
  std::map<const CLI::App*, std::string> name_of_;
  std::map<const CLI::App*, std::deque<Slot>> slots_of_;
  std::map<const CLI::App*, const DeclaredCommand*> command_of_;
};

std::string DidYouMean(const std::string& word, const Words& candidates) {
  const std::string nearest = Nearest(word, candidates);
  return nearest.empty() ? "" : absl::StrCat("; did you mean ", JsonQuote(nearest), "?");
}

std::string SeeHelp(const std::string& name) {
  return absl::StrCat(" (`dw ", name, name.empty() ? "" : " ", "--help` lists what there is)");
}

// The words that may follow `group`, for suggestions.
Words NextWords(const std::vector<DeclaredCommand>& commands, const std::string& group) {
  Words next;
  const size_t depth =
      group.empty() ? 0 : 1 + static_cast<size_t>(std::count(group.begin(), group.end(), ' '));
  for (const DeclaredCommand& command : commands) {
    if (command.command->hidden() || command.words.size() <= depth) continue;
    if (!group.empty() && !absl::StartsWith(command.name, absl::StrCat(group, " "))) continue;
    next.push_back(command.words[depth]);
  }
  return next;
}

absl::Status NoSuchCommand(const std::vector<DeclaredCommand>& commands, const std::string& group,
                           const Words& extras) {
  const std::string prefix = absl::StrCat("dw", group.empty() ? "" : " ", group);
  if (extras.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`", prefix,
        "` is not complete, want a command: ", absl::StrJoin(NextWords(commands, group), ", ")));
  }
  return absl::InvalidArgumentError(absl::StrCat("`", prefix, " ", extras[0], "` is no command",
                                                 DidYouMean(extras[0], NextWords(commands, group)),
                                                 SeeHelp(group)));
}

absl::Status NotTaken(const std::string& name, const std::string& word,
                      const std::deque<Slot>& slots) {
  if (!absl::StartsWith(word, "-")) {
    return absl::InvalidArgumentError(
        absl::StrCat("`dw ", name, "` got ", JsonQuote(word), " too much", SeeHelp(name)));
  }
  Words flags;
  for (const Slot& slot : slots) {
    if (slot.argument->is_positional) continue;
    flags.push_back(absl::StrCat("--", slot.argument->name));
    for (const std::string& alias : slot.argument->aliases) {
      flags.push_back(absl::StrCat("--", alias));
    }
  }
  const std::string flag = word.substr(0, word.find('='));
  return absl::InvalidArgumentError(
      absl::StrCat("`dw ", name, "` has no flag ", flag, DidYouMean(flag, flags), SeeHelp(name)));
}

absl::Status SetAll(const std::string& name, const std::deque<Slot>& slots) {
  for (const Slot& slot : slots) {
    if (slot.option->count() > 0) {
      DW_RETURN_IF_ERROR(SetArgument(*slot.argument, slot.values));
    } else if (slot.argument->is_required) {
      return absl::InvalidArgumentError(absl::StrCat("`dw ", name, "` lacks ",
                                                     Spelled(*slot.argument), ": ",
                                                     slot.argument->help, SeeHelp(name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<DeclaredCommand> DeclareAll(const CommandTable& table) {
  std::vector<DeclaredCommand> commands;
  commands.reserve(table.size());
  for (const std::unique_ptr<Command>& command : table) {
    DeclaredCommand declared{.command = command.get(), .name = command->name()};
    declared.words = absl::StrSplit(declared.name, ' ');
    command->Declare(declared.arguments);
    commands.push_back(std::move(declared));
  }
  return commands;
}

absl::StatusOr<ParsedLine> ParseLine(const std::vector<DeclaredCommand>& commands,
                                     const Arguments& global, Words words) {
  UnderscoreFlags(words);
  AppTree tree(commands, global);
  try {
    // CLI11 takes them from the back.
    tree.root().parse(Words(words.rbegin(), words.rend()));
  } catch (const CLI::CallForHelp&) {
    const CLI::App& app = tree.Reached();
    const DeclaredCommand* command = tree.CommandOf(app);
    if (command != nullptr) return ParsedLine{.text = CommandHelp(*command, global)};
    return ParsedLine{.text = GroupHelp(tree.NameOf(app), commands, global)};
  } catch (const CLI::CallForVersion&) {
    return ParsedLine{.text = absl::StrCat("dw ", BuildVersion(), "\n")};
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(error.what(), SeeHelp(tree.NameOf(tree.Reached()))));
  }
  CLI::App& app = tree.Reached();
  const std::string& name = tree.NameOf(app);
  const DeclaredCommand* command = tree.CommandOf(app);
  if (words.empty()) return ParsedLine{.text = GroupHelp("", commands, global)};
  if (command == nullptr) return NoSuchCommand(commands, name, app.remaining());
  const Words extras = tree.root().remaining(/*recurse=*/true);
  if (!extras.empty()) return NotTaken(name, extras[0], tree.SlotsOf(app));
  // Flags of every command may also stand before it.
  for (const Slot& slot : tree.SlotsOf(tree.root())) {
    if (slot.option->count() > 0) DW_RETURN_IF_ERROR(SetArgument(*slot.argument, slot.values));
  }
  DW_RETURN_IF_ERROR(SetAll(name, tree.SlotsOf(app)));
  return ParsedLine{.command = command};
}

}  // namespace deltaworks::services
