#include "services/cli/alias_commands.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/random_id.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/pages.h"
#include "services/cli/table.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kAliasHelp[] = "ADAPTER@ALIAS";
constexpr char kEtagHelp[] =
    "only if the alias is still as `dw adapter alias list --output json` showed it";

class AliasSet final : public Command {
 public:
  std::string name() const override { return "adapter alias set"; }
  std::string summary() const override { return "Point an alias at a version"; }
  std::vector<std::string> examples() const override {
    return {"dw adapter alias set notes@champion notes/3",
            "dw adapter alias set notes@champion notes/4 --comment \"better ROUGE-L\""};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("ALIAS", &alias_, kAliasHelp);
    arguments.Positional("VERSION", &version_, "ADAPTER/NUMBER, ADAPTER@ALIAS or ADAPTER, READY");
    arguments.Flag("comment", &comment_, "why, for the history");
    arguments.Flag("etag", &etag_, absl::StrCat(kEtagHelp, "; \"absent\": only if it is new"));
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(const std::string name, AliasName(context, "ALIAS", alias_));
    DW_ASSIGN_OR_RETURN(const std::string version, VersionName(context, "VERSION", version_));
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    // Another alias, or an adapter, stands for the version it means now.
    DW_ASSIGN_OR_RETURN(const v1::AdapterVersion found, registry->GetVersion(version));
    v1::SetAliasRequest request;
    request.mutable_alias()->set_name(name);
    request.mutable_alias()->set_version(found.name());
    request.mutable_alias()->set_etag(etag_);
    request.set_comment(comment_);
    request.set_request_id(RandomHexId());
    DW_ASSIGN_OR_RETURN(const v1::Alias alias, registry->SetAlias(request));
    if (context.json()) return PrintJson(context, alias), kExitOk;
    context.out << ShortVersion(alias.name()) << " is " << ShortVersion(alias.version()) << "\n";
    return kExitOk;
  }

 private:
  std::string alias_, version_, comment_, etag_;
};

class AliasList final : public Command {
 public:
  std::string name() const override { return "adapter alias list"; }
  std::string summary() const override { return "List the aliases of an adapter"; }
  std::vector<std::string> examples() const override { return {"dw adapter alias list notes"}; }
  void Declare(Arguments& arguments) override {
    arguments.Positional("ADAPTER", &adapter_, "whose aliases");
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    v1::ListAliasesRequest request;
    DW_ASSIGN_OR_RETURN(*request.mutable_parent(), AdapterName(context, "ADAPTER", adapter_));
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    DW_ASSIGN_OR_RETURN(
        const v1::ListAliasesResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return registry->ListAliases(page); },
            [](auto& response) { return response.mutable_aliases(); }));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table({"ALIAS", "VERSION", "UPDATED"});
    for (const v1::Alias& alias : all.aliases()) {
      table.AddRow({ShortVersion(alias.name()), ShortVersion(alias.version()),
                    AgeText(ToTime(alias.update_time()), context.clock.Now())});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  std::string adapter_;
  int64_t limit_ = 1000;
};

class AliasDelete final : public Command {
 public:
  std::string name() const override { return "adapter alias delete"; }
  std::string summary() const override { return "Remove an alias; its history stays"; }
  std::vector<std::string> examples() const override {
    return {"dw adapter alias delete notes@champion"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("ALIAS", &alias_, kAliasHelp);
    arguments.Flag("etag", &etag_, kEtagHelp);
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    v1::DeleteAliasRequest request;
    DW_ASSIGN_OR_RETURN(*request.mutable_name(), AliasName(context, "ALIAS", alias_));
    request.set_etag(etag_);
    request.set_request_id(RandomHexId());
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    DW_RETURN_IF_ERROR(registry->DeleteAlias(request));
    if (context.json()) {
      context.out << JsonText(Json{{"deleted", request.name()}}) << "\n";
    } else {
      context.out << ShortVersion(request.name()) << " is deleted\n";
    }
    return kExitOk;
  }

 private:
  std::string alias_, etag_;
};

class AliasHistory final : public Command {
 public:
  std::string name() const override { return "adapter alias history"; }
  std::string summary() const override { return "Show every change of an alias, newest first"; }
  std::vector<std::string> examples() const override {
    return {"dw adapter alias history notes@champion"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Positional("ALIAS", &alias_, kAliasHelp);
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    v1::ListAliasHistoryRequest request;
    DW_ASSIGN_OR_RETURN(*request.mutable_parent(), AliasName(context, "ALIAS", alias_));
    DW_ASSIGN_OR_RETURN(RegistryClient * registry, context.platform.registry());
    DW_ASSIGN_OR_RETURN(
        const v1::ListAliasHistoryResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return registry->ListAliasHistory(page); },
            [](auto& response) { return response.mutable_changes(); }));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table({"TIME", "FROM", "TO", "COMMENT"});
    for (const v1::AliasChange& change : all.changes()) {
      table.AddRow({TimeText(ToTime(change.time())),
                    change.old_version().empty() ? "-" : ShortVersion(change.old_version()),
                    change.new_version().empty() ? "deleted" : ShortVersion(change.new_version()),
                    change.comment()});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  std::string alias_;
  int64_t limit_ = 1000;
};

}  // namespace

void AddAliasCommands(CommandTable& table) {
  table.push_back(std::make_unique<AliasSet>());
  table.push_back(std::make_unique<AliasList>());
  table.push_back(std::make_unique<AliasDelete>());
  table.push_back(std::make_unique<AliasHistory>());
}

}  // namespace deltaworks::services
