#include "services/cli/dw.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "services/base/resource_names.h"
#include "services/cli/exit_code.h"
#include "services/cli/parser.h"
#include "services/cli/table.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

bool Color(bool terminal, const GlobalFlags& flags, const DwProcess& process) {
  return terminal && !flags.no_color && process.environment("NO_COLOR").empty();
}

absl::StatusOr<int> Run(Command& command, const GlobalFlags& flags, const Catalog& catalog,
                        const DwProcess& process) {
  DW_RETURN_IF_ERROR(CheckResourceId("--tenant", flags.tenant));
  DW_ASSIGN_OR_RETURN(PlatformSettings settings,
                      ResolveSettings(flags.platform, flags.config, process.environment));
  const std::unique_ptr<Platform> platform = process.make_platform(std::move(settings));
  CommandContext context{
      .platform = *platform,
      .out = process.out,
      .err = process.err,
      .in = process.in,
      .clock = process.clock,
      .format = flags.output == "json" ? OutputFormat::kJson : OutputFormat::kTable,
      .terminal = process.terminal,
      .color = Color(process.terminal, flags, process),
      .err_terminal = process.err_terminal,
      .err_color = Color(process.err_terminal, flags, process),
      .width = process.width,
      .tenant = flags.tenant,
      .on_interrupt = process.on_interrupt,
      .sleep = process.sleep,
      .catalog = &catalog};
  return command.Run(context);
}

}  // namespace

void GlobalFlags::Declare(Arguments& arguments) {
  arguments.Flag("output", &output, "what is printed")
      .ValueName("FORMAT")
      .Choices({"table", "json"});
  arguments.Flag("no_color", &no_color, "no colours; the variable NO_COLOR does the same");
  arguments.Flag("tenant", &tenant, "tenant that short names belong to (default \"default\")")
      .ValueName("ID");
  arguments
      .Flag("home", &platform.home,
            "folder of the local platform (DELTAWORKS_HOME, ~/.deltaworks by default)")
      .ValueName("FOLDER")
      .Kind(ValueKind::kFolder);
  arguments
      .Flag("config", &config, "client file with addresses and tokens (default dw.json in --home)")
      .ValueName("FILE")
      .Kind(ValueKind::kFile);
  arguments.Flag("scheduler", &platform.scheduler, "address (DELTAWORKS_SCHEDULER)")
      .ValueName("HOST:PORT");
  arguments.Flag("store", &platform.store, "address (DELTAWORKS_STORE)").ValueName("HOST:PORT");
  arguments.Flag("registry", &platform.registry, "address (DELTAWORKS_REGISTRY)")
      .ValueName("HOST:PORT");
  arguments.Flag("inference", &platform.inference, "address (DELTAWORKS_INFERENCE)")
      .ValueName("HOST:PORT");
  arguments
      .Flag("token_file", &platform.token_file,
            "mode 0600, the token to show (DELTAWORKS_TOKEN_FILE)")
      .ValueName("FILE")
      .Kind(ValueKind::kFile);
  arguments
      .Flag("operator_token_file", &platform.operator_token_file,
            "mode 0600, a token of all tenants to show where the platform is changed "
            "(DELTAWORKS_OPERATOR_TOKEN_FILE)")
      .ValueName("FILE")
      .Kind(ValueKind::kFile);
  arguments
      .Flag("tokens_file", &platform.tokens_file,
            "the services' list of tokens, for `dw token add` (DELTAWORKS_TOKENS_FILE)")
      .ValueName("FILE")
      .Kind(ValueKind::kFile);
}

int RunDw(const CommandTable& table, const std::vector<std::string>& words,
          const DwProcess& process) {
  GlobalFlags flags;
  Catalog catalog{.commands = DeclareAll(table)};
  flags.Declare(catalog.global);
  // Until the line is understood: it may say --no_color.
  bool color = false;
  const auto fail = [&](const absl::Status& status) {
    const bool silent =
        absl::IsUnavailable(status) && !absl::StrContains(status.message(), "dw up");
    process.err << Painted("dw: ", Paint::kRed, color) << SafeText(status.message())
                << (silent ? " (`dw status` tells what is up)" : "") << "\n"
                << std::flush;
    return ExitCodeOf(status);
  };
  const absl::StatusOr<ParsedLine> line = ParseLine(catalog.commands, catalog.global, words);
  if (!line.ok()) return fail(line.status());
  color = Color(process.err_terminal, flags, process);
  if (line->command == nullptr) {
    process.out << line->text << std::flush;
    return kExitOk;
  }
  const absl::StatusOr<int> code = Run(*line->command->command, flags, catalog, process);
  process.out << std::flush;
  if (!code.ok()) return fail(code.status());
  return *code;
}

}  // namespace deltaworks::services
