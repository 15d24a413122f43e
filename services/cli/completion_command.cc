#include "services/cli/completion_command.h"

#include <string>
#include <vector>

#include "services/cli/completion.h"
#include "services/cli/exit_code.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

class Completion final : public Command {
 public:
  std::string name() const override { return "completion"; }
  std::string summary() const override { return "Print a completion script for a shell"; }
  std::vector<std::string> examples() const override {
    return {"source <(dw completion bash)", "dw completion zsh > \"${fpath[1]}/_dw\"",
            "dw completion fish | source"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("SHELL", &shell_, "which shell").Choices({"bash", "zsh", "fish"});
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    const Catalog& catalog = *context.catalog;
    const std::string script = shell_ == "bash"  ? BashCompletion(catalog)
                               : shell_ == "zsh" ? ZshCompletion(catalog)
                                                 : FishCompletion(catalog);
    if (context.json()) {
      context.out << JsonText(Json{{"shell", shell_}, {"script", script}}) << "\n";
    } else {
      context.out << script;
    }
    return kExitOk;
  }

 private:
  std::string shell_;
};

}  // namespace

std::unique_ptr<Command> MakeCompletion() { return std::make_unique<Completion>(); }

}  // namespace deltaworks::services
