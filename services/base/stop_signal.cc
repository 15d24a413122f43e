#include "services/base/stop_signal.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "glog/logging.h"

namespace deltaworks::services {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

StopSignal::StopSignal() {
  const sigset_t set = StopSignals();
  PCHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC);
  event_fd_ = eventfd(0, EFD_CLOEXEC);
  PCHECK(signal_fd_ >= 0 && event_fd_ >= 0);
}

StopSignal::~StopSignal() {
  close(signal_fd_);
  close(event_fd_);
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void StopSignal::Request(absl::Status reason) {
  MutexLock lock(&mutex_);
  if (requested_) return;
  requested_ = true;
  reason_ = std::move(reason);
  PCHECK(eventfd_write(event_fd_, 1) == 0);
}

absl::Status StopSignal::Wait() {
  pollfd fds[] = {{signal_fd_, POLLIN, 0}, {event_fd_, POLLIN, 0}};
  while (poll(fds, 2, -1) < 0) PCHECK(errno == EINTR);
  if ((fds[0].revents & POLLIN) != 0) {
    signalfd_siginfo taken;
    PCHECK(read(signal_fd_, &taken, sizeof(taken)) == sizeof(taken));
  }
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  MutexLock lock(&mutex_);
  return requested_ ? reason_ : absl::OkStatus();
}

}  // namespace deltaworks::services
