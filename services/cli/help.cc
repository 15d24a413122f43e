#include "services/cli/help.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"

namespace deltaworks::services {
namespace {

// In the order in which `dw --help` shows them.
constexpr std::array<std::pair<const char*, const char*>, 8> kGroups = {{
    {"model", "Base models: the frozen weights that jobs train on"},
    {"dataset", "Training data, checked and immutable"},
    {"job", "Fine-tune jobs"},
    {"adapter", "What jobs produce: adapters and their versions"},
    {"adapter alias", "Names that point at one version of an adapter, with history"},
    {"worker", "The processes that train"},
    {"quota", "Shares of tenants in the devices"},
    {"token", "Who may call the platform"},
}};

constexpr int64_t kColumns = 100;
constexpr int64_t kHelpColumn = 34;

std::vector<std::string> Wrap(const std::string& text, int64_t width) {
  std::vector<std::string> lines(1);
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!lines.back().empty() && DisplayWidth(lines.back()) + 1 + DisplayWidth(word) > width) {
      lines.emplace_back();
    }
    absl::StrAppend(&lines.back(), lines.back().empty() ? "" : " ", word);
  }
  return lines;
}

// "  left      right", the right part wrapped in its column.
std::string Entry(const std::string& left, const std::string& right) {
  std::string text = absl::StrCat("  ", left);
  const int64_t used = DisplayWidth(text);
  if (used + 2 > kHelpColumn) {
    absl::StrAppend(&text, "\n", std::string(kHelpColumn, ' '));
  } else {
    text.append(static_cast<size_t>(kHelpColumn - used), ' ');
  }
  const std::string separator = absl::StrCat("\n", std::string(kHelpColumn, ' '));
  return absl::StrCat(text, absl::StrJoin(Wrap(right, kColumns - kHelpColumn), separator), "\n");
}

std::string FlagEntry(const Argument& argument) {
  std::string left = absl::StrCat("--", argument.name);
  for (const std::string& alias : argument.aliases) {
    absl::StrAppend(&left, ", ", alias.size() == 1 ? "-" : "--", alias);
  }
  if (!argument.is_switch) absl::StrAppend(&left, " ", argument.value_name);
  std::string help = argument.help;
  if (!argument.choices.empty()) {
    absl::StrAppend(&help, ": ", absl::StrJoin(argument.choices, ", "));
  }
  if (argument.is_required) absl::StrAppend(&help, " (required)");
  return Entry(left, help);
}

std::string Flags(const Arguments& arguments, const std::string& first_heading) {
  std::vector<std::string> sections;
  for (const Argument& argument : arguments.all()) {
    if (argument.is_positional) continue;
    if (std::find(sections.begin(), sections.end(), argument.section) == sections.end()) {
      sections.push_back(argument.section);
    }
  }
  std::string text;
  for (const std::string& section : sections) {
    absl::StrAppend(&text, "\n", section.empty() ? first_heading : section, ":\n");
    for (const Argument& argument : arguments.all()) {
      if (!argument.is_positional && argument.section == section) text += FlagEntry(argument);
    }
  }
  return text;
}

std::string UsageOf(const Argument& argument) {
  const std::string name = absl::StrCat(argument.name, argument.is_list ? "..." : "");
  return argument.is_required ? name : absl::StrCat("[", name, "]");
}

bool IsIn(const DeclaredCommand& command, const std::string& group) {
  return group.empty() || absl::StartsWith(command.name, absl::StrCat(group, " "));
}

// "job" for "job submit" in the list of all, "" for "up".
std::string GroupOf(const DeclaredCommand& command) {
  return command.words.size() > 1
             ? absl::StrJoin(command.words.begin(), command.words.end() - 1, " ")
             : "";
}

int64_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<int64_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    int64_t diagonal = row[0];
    row[0] = static_cast<int64_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string GroupSummary(const std::string& group) {
  for (const auto& [name, summary] : kGroups) {
    if (name == group) return summary;
  }
  return "";
}

std::string CommandHelp(const DeclaredCommand& command, const Arguments& global) {
  std::string usage = absl::StrCat("dw ", command.name);
  std::string positional;
  for (const Argument& argument : command.arguments.all()) {
    if (!argument.is_positional) continue;
    absl::StrAppend(&usage, " ", UsageOf(argument));
    const std::string choices =
        argument.choices.empty() ? "" : absl::StrCat(": ", absl::StrJoin(argument.choices, ", "));
    positional += Entry(argument.name, absl::StrCat(argument.help, choices));
  }
  std::string text =
      absl::StrCat("Usage: ", usage, " [FLAGS]\n\n", command.command->summary(), ".\n");
  if (const std::string details = command.command->details(); !details.empty()) {
    absl::StrAppend(&text, absl::StrJoin(Wrap(details, kColumns), "\n"), "\n");
  }
  if (!positional.empty()) absl::StrAppend(&text, "\nArguments:\n", positional);
  absl::StrAppend(&text, Flags(command.arguments, "Flags"), "\nExamples:\n");
  for (const std::string& example : command.command->examples()) {
    absl::StrAppend(&text, "  ", example, "\n");
  }
  return absl::StrCat(text, Flags(global, "Flags of every command"));
}

std::string GroupHelp(const std::string& group, const std::vector<DeclaredCommand>& commands,
                      const Arguments& global) {
  std::string text =
      group.empty() ? "Usage: dw COMMAND [ARGUMENTS] [FLAGS]\n\n"
                      "Deltaworks fine-tunes language models with LoRA. `dw up` starts a platform "
                      "on this machine.\n"
                    : absl::StrCat("Usage: dw ", group, " COMMAND [ARGUMENTS] [FLAGS]\n\n",
                                   GroupSummary(group), ".\n");
  std::vector<std::pair<std::string, std::string>> headings = {{"", "Platform and text"}};
  for (const auto& [name, summary] : kGroups) headings.emplace_back(name, summary);
  for (const auto& [name, heading] : headings) {
    std::string entries;
    for (const DeclaredCommand& command : commands) {
      if (command.command->hidden() || !IsIn(command, group) || GroupOf(command) != name) continue;
      entries += Entry(absl::StrCat("dw ", command.name), command.command->summary());
    }
    if (!entries.empty()) absl::StrAppend(&text, "\n", heading, ":\n", entries);
  }
  absl::StrAppend(&text, "\nAny command with --help tells its flags and shows examples.\n");
  if (!group.empty()) return text;
  return absl::StrCat(text, Flags(global, "Flags of every command"), "\nExit codes:\n",
                      ExitCodeHelp());
}

std::string Nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  int64_t best_distance = std::max<int64_t>(2, static_cast<int64_t>(word.size()) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const int64_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace deltaworks::services
