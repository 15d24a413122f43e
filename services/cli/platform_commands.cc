#include "services/cli/platform_commands.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/resource_names.h"
#include "services/base/token_file.h"
#include "services/base/version.h"
#include "services/cli/exit_code.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

class TokenAdd final : public Command {
 public:
  std::string name() const override { return "token add"; }
  std::string summary() const override { return "Make a token for a tenant"; }
  std::string details() const override {
    return "Adds a line to the services' list of tokens on this machine; they see it at the next "
           "call. The token is printed once and kept nowhere: write it to a file of mode 0600 and "
           "name that with --token_file, or let --save do so.";
  }
  std::vector<std::string> examples() const override {
    return {"dw token add team-a", "dw token add team-a --save team-a.token"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("TENANT", &tenant_, "whom the token speaks for");
    arguments.Flag("save", &save_, "write the token to this file, mode 0600, instead of printing")
        .ValueName("FILE")
        .Kind(ValueKind::kFile);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    if (tenant_ != kAllTenants) DW_RETURN_IF_ERROR(CheckResourceId("TENANT", tenant_));
    const std::string& path = context.platform.settings().tokens_file;
    if (path.empty()) {
      return absl::UnavailableError(
          "no platform: run `dw up`, or name the services' list of tokens with --tokens_file");
    }
    DW_ASSIGN_OR_RETURN(const std::string token, TokenFile::AddToken(path, tenant_));
    if (!save_.empty()) DW_RETURN_IF_ERROR(WriteSecretFile(save_, token));
    const std::string shown = save_.empty() ? token : "";
    if (context.json()) {
      context.out << JsonText(Json{{"tenant", tenant_}, {"token", shown}, {"saved_to", save_}})
                  << "\n";
    } else {
      context.out << (save_.empty() ? token : save_) << "\n";
    }
    return kExitOk;
  }

 private:
  std::string tenant_, save_;
};

class Version final : public Command {
 public:
  std::string name() const override { return "version"; }
  std::string summary() const override { return "Print the version of this program"; }
  std::vector<std::string> examples() const override { return {"dw version"}; }
  void Declare(Arguments&) override {}

  absl::StatusOr<int> Run(CommandContext& context) override {
    if (context.json()) {
      context.out << JsonText(Json{{"version", BuildVersion()}}) << "\n";
    } else {
      context.out << "dw " << BuildVersion() << "\n";
    }
    return kExitOk;
  }
};

}  // namespace

void AddPlatformCommands(CommandTable& table) {
  table.push_back(std::make_unique<TokenAdd>());
  table.push_back(std::make_unique<Version>());
}

}  // namespace deltaworks::services
