#include "services/cli/platform_commands.h"

#include <cstdint>
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
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/pages.h"
#include "services/cli/table.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

class WorkerList final : public Command {
 public:
  std::string name() const override { return "worker list"; }
  std::string summary() const override { return "List workers: device, jobs, last report"; }
  std::vector<std::string> examples() const override {
    return {"dw worker list", "dw worker list --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
    DW_ASSIGN_OR_RETURN(const v1::ListWorkersResponse all,
                        ListAll(
                            v1::ListWorkersRequest(), limit_,
                            [&](const auto& page) { return client->ListWorkers(page); },
                            [](auto& response) { return response.mutable_workers(); }));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table({"WORKER", "STATE", "DEVICE", "DESCRIPTION", ">MEMORY", ">JOBS", "LAST REPORT"});
    for (const v1::Worker& worker : all.workers()) {
      table.AddRow(
          {ShortName(worker.name()), StateCell(worker), worker.environment().device(),
           worker.environment().device_description(),
           BytesText(worker.environment().memory_bytes()), absl::StrCat(worker.job_count()),
           absl::StrCat(DurationText(absl::Seconds(worker.last_report_age_seconds())), " ago")});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  static Cell StateCell(const v1::Worker& worker) {
    if (!worker.online()) return {"offline", Paint::kRed};
    if (worker.draining()) return {"draining", Paint::kYellow};
    return {"online", Paint::kGreen};
  }

  int64_t limit_ = 1000;
};

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
  table.push_back(std::make_unique<WorkerList>());
  table.push_back(std::make_unique<TokenAdd>());
  table.push_back(std::make_unique<Version>());
}

}  // namespace deltaworks::services
