#include "services/cli/local/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "services/base/log.h"
#include "services/cli/local/port_owner.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// Even if nothing happens, the loop looks around this often.
constexpr absl::Duration kTurnMax = absl::Seconds(1);
constexpr absl::Duration kStopTurnMax = absl::Milliseconds(100);

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, number);
  return set;
}

}  // namespace

Supervisor::Supervisor(Options options, const Clock& clock)
    : options_(std::move(options)), clock_(clock) {
  for (const ProcessSpec& spec : options_.processes) {
    processes_.push_back(
        std::make_unique<SupervisedProcess>(spec, options_.layout, options_.process, clock_));
  }
  state_.supervisor_pid = getpid();
  state_.supervisor_start_ticks = StartTicksOf(getpid());
  state_.start_time = clock_.Now();
}

Supervisor::~Supervisor() {
  if (signal_fd_ >= 0) close(signal_fd_);
}

absl::Status Supervisor::Run() {
  const sigset_t signals = Signals();
  sigset_t before;
  PCHECK(pthread_sigmask(SIG_BLOCK, &signals, &before) == 0);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  PCHECK(signal_fd_ >= 0);

  // Who cannot say how it is must not run: nobody could stop it.
  absl::Status result = WritePlatformState(options_.layout.StateFile(), state_);
  if (result.ok()) result = CheckPorts();
  if (result.ok()) result = StartAll();
  if (result.ok() && stop_signals_ == 0) {
    result = WriteClientFile(options_.layout, AddressesNow());
    if (result.ok()) {
      state_.phase = PlatformPhase::kUp;
      KeepUp();
    }
  }
  state_.error = result.ok() ? "" : std::string(result.message());
  StopAll();
  state_.phase = result.ok() ? PlatformPhase::kStopped : PlatformPhase::kFailed;
  Publish();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

absl::Status Supervisor::CheckPorts() const {
  for (const ProcessSpec& spec : options_.processes) {
    DW_RETURN_IF_ERROR(
        CheckPortIsFree(absl::StrCat("the address of ", spec.name, ","), spec.address));
    DW_RETURN_IF_ERROR(
        CheckPortIsFree(absl::StrCat("the metrics of ", spec.name, ","), spec.metrics_address));
  }
  return absl::OkStatus();
}

absl::Status Supervisor::StartAll() {
  for (const auto& process : processes_) {
    process->Start(AddressesNow());
    while (true) {
      DW_RETURN_IF_ERROR(CheckStart());
      if (process->state().phase == ProcessPhase::kUp) break;
      if (stop_signals_ > 0) return absl::OkStatus();
      Turn(kTurnMax);
    }
  }
  return absl::OkStatus();
}

void Supervisor::KeepUp() {
  while (stop_signals_ == 0) Turn(kTurnMax);
}

void Supervisor::StopAll() {
  state_.phase = PlatformPhase::kStopping;
  RemoveClientFile(options_.layout);
  LogInfo("stopping");
  std::set<int> ranks;
  for (const auto& process : processes_) ranks.insert(process->spec().stop_rank);
  for (auto rank = ranks.rbegin(); rank != ranks.rend(); ++rank) StopRank(*rank);
}

void Supervisor::StopRank(int rank) {
  std::vector<SupervisedProcess*> told;
  absl::Duration timeout;
  for (const auto& process : processes_) {
    if (process->spec().stop_rank != rank) continue;
    process->Terminate();
    told.push_back(process.get());
    timeout = std::max(timeout, process->spec().stop_timeout);
  }
  const absl::Duration until = clock_.Monotonic() + timeout;
  const auto some_run = [&told] {
    return std::any_of(told.begin(), told.end(), [](auto* process) { return process->running(); });
  };
  while (some_run()) {
    if (stop_signals_ > 1 || clock_.Monotonic() >= until) {
      for (SupervisedProcess* process : told) process->Kill();
    }
    Turn(kStopTurnMax);
  }
  Publish();
}

void Supervisor::Turn(absl::Duration wait) {
  std::vector<pollfd> fds = {{signal_fd_, POLLIN, 0}};
  for (const auto& process : processes_) {
    wait = std::min(wait, process->NextTurnIn());
    if (process->output_fd() >= 0) fds.push_back({process->output_fd(), POLLIN, 0});
  }
  Publish();
  poll(fds.data(), fds.size(), static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1);
  TakeSignals();
  const Addresses addresses = AddressesNow();
  for (const auto& process : processes_) process->Turn(addresses);
}

void Supervisor::TakeSignals() {
  signalfd_siginfo taken;
  while (read(signal_fd_, &taken, sizeof(taken)) == sizeof(taken)) {
    if (taken.ssi_signo != SIGCHLD) ++stop_signals_;
  }
}

void Supervisor::Publish() {
  state_.processes.clear();
  std::string summary = absl::StrCat(NameOf(state_.phase), state_.error);
  for (const auto& process : processes_) {
    const ProcessState& state = process->state();
    state_.processes.push_back(state);
    absl::StrAppend(&summary, "|", NameOf(state.phase), state.pid, " ", state.restarts);
  }
  if (summary == published_) return;
  published_ = summary;
  if (absl::Status status = WritePlatformState(options_.layout.StateFile(), state_); !status.ok()) {
    LogWarning("state not written", {{"error", status}});
  }
  if (options_.changed) options_.changed(state_);
}

Addresses Supervisor::AddressesNow() const {
  Addresses addresses;
  for (const auto& process : processes_) {
    if (!process->state().address.empty()) {
      addresses[process->spec().name] = process->state().address;
    }
  }
  return addresses;
}

absl::Status Supervisor::CheckStart() {
  for (const auto& process : processes_) {
    const ProcessState& state = process->state();
    const bool failed = state.phase == ProcessPhase::kFailed;
    if (!failed && state.phase != ProcessPhase::kRestarting) continue;
    state_.failed_process = state.name;
    return absl::UnavailableError(
        failed ? process->failure()
               : absl::StrCat(state.name, " ended while others were starting: ", state.last_exit));
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services
