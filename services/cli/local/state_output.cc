#include "services/cli/local/state_output.h"

#include "absl/strings/str_cat.h"
#include "services/cli/format.h"
#include "services/cli/table.h"
#include "trainer/base/json.h"

namespace deltaworks::services {
namespace {

std::string HealthOf(const PlatformReport& report, const std::string& name) {
  const auto found = report.health.find(name);
  return found == report.health.end() ? "" : found->second;
}

Json ProcessJson(const ProcessState& process, const PlatformReport& report, absl::Time now) {
  const double uptime_s = process.pid == 0 ? 0 : absl::ToDoubleSeconds(now - process.start_time);
  return Json{{"name", process.name},
              {"state", NameOf(process.phase)},
              {"pid", process.pid},
              {"uptime_s", uptime_s},
              {"restarts", process.restarts},
              {"last_exit", process.last_exit},
              {"address", process.address},
              {"metrics_address", process.metrics_address},
              {"health", HealthOf(report, process.name)},
              {"log_file", process.log_file}};
}

void PrintJsonReport(const PlatformLayout& layout, const PlatformReport& report,
                     CommandContext& context) {
  Json json = {{"phase", report.phase},
               {"error", report.error},
               {"home", layout.home},
               {"supervisor_pid", report.phase == "down" ? 0 : report.state.supervisor_pid},
               {"processes", Json::array()},
               {"jobs", nullptr}};
  if (report.phase != "down") {
    for (const ProcessState& process : report.state.processes) {
      json["processes"].push_back(ProcessJson(process, report, context.clock.Now()));
    }
  }
  if (report.jobs.has_value()) {
    json["jobs"] = {{"running", report.jobs->running}, {"waiting", report.jobs->waiting}};
  }
  context.out << JsonText(json, 2) << "\n";
}

Cell PhaseCell(ProcessPhase phase) {
  const bool good = phase == ProcessPhase::kUp;
  const bool bad = phase == ProcessPhase::kFailed || phase == ProcessPhase::kRestarting;
  return {NameOf(phase), good ? Paint::kGreen : bad ? Paint::kRed : Paint::kYellow};
}

Cell HealthCell(const std::string& health) {
  if (health.empty()) return "-";
  return {health, health == kServing ? Paint::kGreen : Paint::kRed};
}

void PrintProcesses(const PlatformReport& report, CommandContext& context) {
  Table table({"PROCESS", "STATE", ">PID", "UPTIME", ">RESTARTS", "ADDRESS", "METRICS", "HEALTH"});
  for (const ProcessState& process : report.state.processes) {
    const bool runs = process.pid != 0;
    table.AddRow({process.name, PhaseCell(process.phase),
                  runs ? absl::StrCat(process.pid) : std::string("-"),
                  runs ? DurationText(context.clock.Now() - process.start_time) : std::string("-"),
                  absl::StrCat(process.restarts), process.address.empty() ? "-" : process.address,
                  process.metrics_address.empty() ? "-" : process.metrics_address + "/metrics",
                  HealthCell(HealthOf(report, process.name))});
  }
  table.Print(context.out, context.color);
}

}  // namespace

void PrintReport(const PlatformLayout& layout, const PlatformReport& report,
                 CommandContext& context) {
  if (context.json()) {
    PrintJsonReport(layout, report, context);
    return;
  }
  if (report.phase == "down") {
    context.out << "down: no platform runs in " << layout.home << "; start one with `dw up`\n";
  } else {
    PrintProcesses(report, context);
    FactSheet facts;
    facts.Add("jobs", report.jobs.has_value() ? absl::StrCat(report.jobs->running, " running, ",
                                                             report.jobs->waiting, " waiting")
                                              : std::string());
    facts.Add("home", layout.home);
    facts.Add("data", layout.home + "/data");
    facts.Add("logs", layout.LogFolder());
    context.out << "\n";
    facts.Print(context.out, context.color);
  }
  if (!report.error.empty()) context.err << report.error << "\n";
}

}  // namespace deltaworks::services
