#include "services/cli/help_command.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/base/json_escape.h"
#include "services/cli/exit_code.h"
#include "services/cli/help.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

class Help final : public Command {
 public:
  std::string name() const override { return "help"; }
  std::string summary() const override { return "Explain a command, or list them all"; }
  std::vector<std::string> examples() const override {
    return {"dw help", "dw help job submit", "dw help adapter"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("COMMAND", &words_, "a command, or a group of them").Optional();
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    const std::string wanted = absl::StrJoin(words_, " ");
    const Catalog& catalog = *context.catalog;
    if (context.json()) return List(context, wanted), kExitOk;
    for (const DeclaredCommand& command : catalog.commands) {
      if (command.name != wanted) continue;
      context.out << CommandHelp(command, catalog.global);
      return kExitOk;
    }
    if (!wanted.empty() && GroupSummary(wanted).empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("COMMAND is ", JsonQuote(wanted), ", want a command that `dw help` lists"));
    }
    context.out << GroupHelp(wanted, catalog.commands, catalog.global);
    return kExitOk;
  }

 private:
  static void List(CommandContext& context, const std::string& wanted) {
    Json commands = Json::array();
    for (const DeclaredCommand& command : context.catalog->commands) {
      if (command.command->hidden() || !absl::StartsWith(command.name, wanted)) continue;
      commands.push_back({{"name", command.name}, {"summary", command.command->summary()}});
    }
    context.out << JsonText(Json{{"commands", std::move(commands)}}, /*indent=*/1) << "\n";
  }

  std::vector<std::string> words_;
};

}  // namespace

std::unique_ptr<Command> MakeHelp() { return std::make_unique<Help>(); }

}  // namespace deltaworks::services
