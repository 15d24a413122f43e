#include "services/cli/completion.h"

#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace deltaworks::services {
namespace {

using Words = std::vector<std::string>;

// What may follow a place on the line. A place is the command's words so far: "", "job",
// "job submit".
struct Place {
  std::set<std::string> next;  // Commands and groups; empty at the end of a command.
  Words flags;                 // "--rank".
  Words choices;               // Of the positional arguments.
  bool takes_files = false;
};

struct Model {
  std::map<std::string, Place> places;
  // "job submit:--form" -> its choices; or files.
  std::map<std::string, Words> choices;
  Words file_flags;
};

void AddFlag(const Argument& argument, const std::string& place, Model& model) {
  const std::string flag = absl::StrCat("--", argument.name);
  model.places[place].flags.push_back(flag);
  const std::string key = absl::StrCat(place, ":", flag);
  if (!argument.choices.empty()) model.choices[key] = argument.choices;
  if (argument.kind != ValueKind::kText) model.file_flags.push_back(key);
}

void AddArguments(const Arguments& arguments, const std::string& name, Model& model) {
  for (const Argument& argument : arguments.all()) {
    Place& place = model.places[name];
    if (!argument.is_positional) {
      AddFlag(argument, name, model);
    } else if (!argument.choices.empty()) {
      place.choices.insert(place.choices.end(), argument.choices.begin(), argument.choices.end());
    } else {
      place.takes_files |= argument.kind != ValueKind::kText;
    }
  }
}

Model MakeModel(const Catalog& catalog) {
  Model model;
  for (const DeclaredCommand& command : catalog.commands) {
    if (command.command->hidden()) continue;
    std::string place;
    for (const std::string& word : command.words) {
      model.places[place].next.insert(word);
      absl::StrAppend(&place, place.empty() ? "" : " ", word);
    }
    AddArguments(command.arguments, place, model);
    AddArguments(catalog.global, place, model);
    model.places[place].flags.push_back("--help");
  }
  return model;
}

// "a|b" patterns of a case, each in double quotes.
std::string Patterns(const Words& keys) {
  return absl::StrCat("\"", absl::StrJoin(keys, "\"|\""), "\"");
}

Words PlacesThatEnd(const Model& model) {
  Words names;
  for (const auto& [name, place] : model.places) {
    if (!name.empty()) names.push_back(name);
  }
  return names;
}

// The part that bash and zsh share: walks the words before the cursor into `place`.
// `words`: the loop over them, in the shell's own counting.
std::string WalkWords(const Model& model, const std::string& loop) {
  return absl::StrCat(loop, R"(
    case "$word" in -*) continue ;; esac
    case "${place:+$place }$word" in
      )",
                      Patterns(PlacesThatEnd(model)), R"() place="${place:+$place }$word" ;;
    esac
  done
)");
}

// Case branches: `files` and `choices` are what the shell does with them ("%" is the list).
std::string FlagBranches(const Model& model, const std::string& files, const std::string& choices) {
  std::string text = "  case \"$place:$previous\" in\n";
  if (!model.file_flags.empty()) {
    absl::StrAppend(&text, "    ", Patterns(model.file_flags), ") ", files, "; return ;;\n");
  }
  for (const auto& [key, values] : model.choices) {
    absl::StrAppend(&text, "    \"", key, "\") ",
                    absl::StrReplaceAll(choices, {{"%", absl::StrJoin(values, " ")}}),
                    "; return ;;\n");
  }
  return absl::StrCat(text, "  esac\n");
}

std::string PlaceBranches(const Model& model, const std::string& files,
                          const std::string& choices) {
  std::string text = "  case \"$place\" in\n";
  for (const auto& [name, place] : model.places) {
    Words words(place.next.begin(), place.next.end());
    words.insert(words.end(), place.choices.begin(), place.choices.end());
    words.insert(words.end(), place.flags.begin(), place.flags.end());
    absl::StrAppend(&text, "    \"", name, "\") ",
                    absl::StrReplaceAll(choices, {{"%", absl::StrJoin(words, " ")}}),
                    place.takes_files ? absl::StrCat("; ", files) : "", " ;;\n");
  }
  return absl::StrCat(text, "  esac\n");
}

std::string FishQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

}  // namespace

std::string BashCompletion(const Catalog& catalog) {
  const Model model = MakeModel(catalog);
  const std::string files = "COMPREPLY+=($(compgen -f -- \"$current\"))";
  const std::string choices = "COMPREPLY+=($(compgen -W \"%\" -- \"$current\"))";
  return absl::StrCat(
      "# Completion of dw for bash. Use: source <(dw completion bash)\n"
      "_dw() {\n"
      "  local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
      "  local place=\"\" word\n"
      "  COMPREPLY=()\n",
      WalkWords(model, "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do"),
      FlagBranches(model, files, choices), PlaceBranches(model, files, choices),
      "}\n"
      "complete -o filenames -F _dw dw\n");
}

std::string ZshCompletion(const Catalog& catalog) {
  const Model model = MakeModel(catalog);
  return absl::StrCat(
      "#compdef dw\n"
      "# Completion of dw for zsh. Use: source <(dw completion zsh)\n"
      "_dw() {\n"
      "  local place=\"\" word previous=\"${words[CURRENT-1]}\"\n",
      WalkWords(model, "  for word in \"${(@)words[2,CURRENT-1]}\"; do"),
      FlagBranches(model, "_files", "compadd -- %"), PlaceBranches(model, "_files", "compadd -- %"),
      "}\n"
      "if [ \"${funcstack[1]:-}\" = \"_dw\" ]; then _dw \"$@\"; else compdef _dw dw; fi\n");
}

std::string FishCompletion(const Catalog& catalog) {
  const Model model = MakeModel(catalog);
  std::string text = absl::StrCat(
      "# Completion of dw for fish. Use: dw completion fish | source\n"
      "function __dw_place\n"
      "  set -l place ''\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    string match -q -- '-*' $word; and continue\n"
      "    set -l longer (string trim -- \"$place $word\")\n"
      "    contains -- $longer ",
      absl::StrJoin(PlacesThatEnd(model), " ",
                    [](std::string* out, const std::string& name) { *out += FishQuote(name); }),
      "; and set place $longer\n"
      "  end\n"
      "  test \"$place\" = \"$argv[1]\"\n"
      "end\n"
      "complete -c dw -f\n");
  const auto at = [](const std::string& place) {
    return absl::StrCat("complete -c dw -n ",
                        FishQuote(absl::StrCat("__dw_place \"", place, "\"")));
  };
  for (const auto& [name, place] : model.places) {
    for (const std::string& next : place.next) {
      absl::StrAppend(&text, at(name), " -a ", next, "\n");
    }
    if (!place.choices.empty()) {
      absl::StrAppend(&text, at(name), " -a ", FishQuote(absl::StrJoin(place.choices, " ")), "\n");
    }
    if (place.takes_files) absl::StrAppend(&text, at(name), " -F\n");
  }
  for (const DeclaredCommand& command : catalog.commands) {
    if (command.command->hidden()) continue;
    for (const Arguments* arguments : {&command.arguments, &catalog.global}) {
      for (const Argument& argument : arguments->all()) {
        if (argument.is_positional) continue;
        absl::StrAppend(&text, at(command.name), " -l ", argument.name, " -d ",
                        FishQuote(argument.help), argument.is_switch ? "" : " -r");
        if (!argument.choices.empty()) {
          absl::StrAppend(&text, " -a ", FishQuote(absl::StrJoin(argument.choices, " ")));
        }
        absl::StrAppend(&text, argument.kind != ValueKind::kText ? " -F\n" : "\n");
      }
    }
  }
  return text;
}

}  // namespace deltaworks::services
