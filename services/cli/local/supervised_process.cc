#include "services/cli/local/supervised_process.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/address.h"
#include "services/base/log.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

// Between two looks at a process that starts, or has been told to stop.
constexpr absl::Duration kLookInterval = absl::Milliseconds(30);
constexpr int64_t kPortFileBytesMax = 64;
// Reads of one turn: a process that writes without end must not hold up the others.
constexpr int kReadsMax = 16;

// `address` with the port that the process wrote; nullopt while it has not.
std::optional<std::string> AddressTaken(const std::string& address, const std::string& port_file) {
  const absl::StatusOr<std::string> text = ReadFile(port_file, kPortFileBytesMax);
  absl::StatusOr<HostPort> parsed = ParseHostPort("address", address);
  if (!text.ok() || !parsed.ok() || !absl::SimpleAtoi(*text, &parsed->port) || parsed->port < 1) {
    return std::nullopt;
  }
  return FormatHostPort(*parsed);
}

}  // namespace

SupervisedProcess::SupervisedProcess(ProcessSpec spec, const PlatformLayout& layout,
                                     const Settings& settings, const Clock& clock)
    : spec_(std::move(spec)),
      settings_(settings),
      clock_(clock),
      port_file_(layout.PortFile(spec_.name)),
      metrics_port_file_(layout.MetricsPortFile(spec_.name)),
      log_(layout.LogFile(spec_.name)),
      policy_(settings.restart) {
  state_.name = spec_.name;
  state_.log_file = layout.LogFile(spec_.name);
}

void SupervisedProcess::Start(const Addresses& addresses) {
  if (state_.phase == ProcessPhase::kWaiting) Launch(addresses);
}

void SupervisedProcess::Launch(const Addresses& addresses) {
  ChildProcess::Spec child = {{spec_.binary}, spec_.nice, settings_.inherited_fd};
  child.command.push_back("--address=" + spec_.address);
  child.command.push_back("--port_file=" + port_file_);
  child.command.push_back("--metrics_address=" + spec_.metrics_address);
  child.command.push_back("--metrics_port_file=" + metrics_port_file_);
  for (const std::string& argument : spec_.arguments) {
    child.command.push_back(FillAddresses(argument, addresses));
  }
  unlink(port_file_.c_str());
  unlink(metrics_port_file_.c_str());
  launched_at_ = clock_.Monotonic();
  state_.start_time = clock_.Now();
  timed_out_ = false;
  policy_.Started(launched_at_);
  auto started = ChildProcess::Start(child);
  if (!started.ok()) {
    Fail(std::string(started.status().message()));
    return;
  }
  child_ = *std::move(started);
  state_.phase = ProcessPhase::kStarting;
  state_.pid = child_->pid();
  LogStart();
}

void SupervisedProcess::LogStart() {
  log_.Append(FormatLogLine(state_.start_time, LogLevel::kInfo, "supervisor", kStartMark,
                            {{"process", spec_.name}, {"pid", state_.pid}}));
}

void SupervisedProcess::Turn(const Addresses& addresses) {
  if (child_ != nullptr) {
    // First the end, then the output: what was written before the end is all there.
    const std::optional<ProcessExit> exit = child_->Poll();
    MoveOutput();
    if (exit.has_value()) {
      NoteExit(*exit);
    } else if (state_.phase == ProcessPhase::kStarting && !stopping_) {
      LookAtHealth();
    }
  } else if (state_.phase == ProcessPhase::kRestarting && clock_.Monotonic() >= restart_at_) {
    ++state_.restarts;
    Launch(addresses);
  }
}

void SupervisedProcess::MoveOutput() {
  for (int i = 0; i < kReadsMax; ++i) {
    const std::string text = child_->ReadOutput();
    if (text.empty()) return;
    log_.Append(text);
  }
}

void SupervisedProcess::NoteExit(const ProcessExit& exit) {
  child_.reset();
  state_.pid = 0;
  state_.last_exit = timed_out_ ? absl::StrCat("did not answer within ",
                                               absl::FormatDuration(settings_.start_timeout))
                                : exit.Text();
  if (stopping_) {
    state_.phase = ProcessPhase::kStopped;
    return;
  }
  const std::optional<absl::Duration> delay = policy_.Ended(exit, clock_.Monotonic());
  if (!was_up_) {
    Fail(absl::StrCat(spec_.name,
                      timed_out_ ? " " : " ended before it answered: ", state_.last_exit));
  } else if (!delay.has_value()) {
    Fail(absl::StrCat(spec_.name, " is not started again: ", state_.last_exit,
                      " says that its settings are wrong"));
  } else {
    state_.phase = ProcessPhase::kRestarting;
    restart_at_ = clock_.Monotonic() + *delay;
    LogWarning("process ended and will be started again",
               {{"process", spec_.name},
                {"exit", state_.last_exit},
                {"delay_s", absl::ToDoubleSeconds(*delay)}});
  }
}

void SupervisedProcess::LookAtHealth() {
  const auto address = AddressTaken(spec_.address, port_file_);
  const auto metrics = AddressTaken(spec_.metrics_address, metrics_port_file_);
  if (address.has_value() && metrics.has_value() && settings_.check_health(*address).ok()) {
    spec_.address = state_.address = *address;
    spec_.metrics_address = state_.metrics_address = *metrics;
    state_.phase = ProcessPhase::kUp;
    was_up_ = true;
    LogInfo("process is up", {{"process", spec_.name}, {"address", *address}});
  } else if (clock_.Monotonic() - launched_at_ > settings_.start_timeout) {
    timed_out_ = true;
    child_->Signal(SIGKILL);
  }
}

void SupervisedProcess::Fail(std::string why) {
  state_.phase = ProcessPhase::kFailed;
  failure_ = std::move(why);
  LogError("process failed", {{"process", spec_.name}, {"error", failure_}});
}

void SupervisedProcess::Terminate() {
  stopping_ = true;
  if (child_ != nullptr) {
    child_->Signal(SIGTERM);
  } else if (state_.phase != ProcessPhase::kFailed) {
    state_.phase = ProcessPhase::kStopped;
  }
}

void SupervisedProcess::Kill() {
  stopping_ = true;
  if (child_ != nullptr) child_->Signal(SIGKILL);
}

absl::Duration SupervisedProcess::NextTurnIn() const {
  if (state_.phase == ProcessPhase::kStarting) return kLookInterval;
  if (state_.phase == ProcessPhase::kRestarting) {
    return std::max(restart_at_ - clock_.Monotonic(), absl::ZeroDuration());
  }
  return absl::InfiniteDuration();
}

}  // namespace deltaworks::services
