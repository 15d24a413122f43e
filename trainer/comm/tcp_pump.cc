#include "trainer/comm/tcp_pump.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/monotonic.h"

namespace deltaworks::trainer {
namespace {

// Of one system call: small enough that what was received is in the cache when it is added.
constexpr int64_t kBytesAtOnce = 256 << 10;
constexpr int64_t kWaitMaxMs = 60'000;
constexpr int kNamedMax = 8;

std::string First(std::vector<std::string> names) {
  const bool more = names.size() > kNamedMax;
  names.resize(std::min<size_t>(names.size(), kNamedMax));
  return absl::StrCat(absl::StrJoin(names, ", "), more ? ", ..." : "");
}

}  // namespace

TcpPump::TcpPump(const std::vector<Socket>& connections, Socket stop_event)
    : connections_(connections),
      stop_event_(std::move(stop_event)),
      polled_(connections.size() + 1) {
  for (int peer = 0; peer < size(); ++peer) polled_[peer].fd = connections_[peer].fd();
}

absl::Status TcpPump::Run(Traffic& traffic, absl::Time deadline, const std::string& subject) {
  absl::Time grace_end = absl::InfiniteFuture();
  while (true) {
    const bool unfinished = Arm(traffic, grace_end != absl::InfiniteFuture());
    if (stopped_) return absl::AbortedError(absl::StrCat(subject, ": Abort() was called"));
    if (!unfinished) return absl::OkStatus();
    const absl::Time now = MonotonicNow();
    if (now >= deadline) return Late(traffic, subject);
    if (now >= grace_end) return Left(traffic, subject);
    // Rounded up, so that it is over when poll says so.
    const int64_t wait_ms =
        1 + std::min(kWaitMaxMs, absl::ToInt64Milliseconds(std::min(deadline, grace_end) - now));
    if (poll(polled_.data(), polled_.size(), static_cast<int>(wait_ms)) < 0 && errno != EINTR) {
      return absl::InternalError(absl::StrCat(subject, ": poll: ", std::strerror(errno)));
    }
    if (stopped_) continue;
    bool left = grace_end != absl::InfiniteFuture();
    bool moved = false;
    for (int peer = 0; peer < size(); ++peer) {
      if (polled_[peer].fd < 0 || polled_[peer].revents == 0) continue;
      if (traffic.Done(peer)) {
        left = true;
      } else {
        DW_RETURN_IF_ERROR(MoveSome(traffic, peer, polled_[peer].revents, subject));
        moved = true;
      }
    }
    if (left && (moved || grace_end == absl::InfiniteFuture())) {
      grace_end = MonotonicNow() + kGrace;
    }
  }
}

bool TcpPump::Arm(Traffic& traffic, bool somebody_left) {
  bool unfinished = false;
  for (int peer = 0; peer < size(); ++peer) {
    pollfd& polled = polled_[peer];
    polled.revents = 0;
    polled.fd = connections_[peer].fd();
    if (polled.fd < 0) continue;
    if (traffic.Done(peer)) {
      // Whether one left needs to be learned once.
      if (somebody_left) polled.fd = -1;
      polled.events = POLLRDHUP;
      continue;
    }
    unfinished = true;
    polled.events = static_cast<short>((traffic.ToSend(peer).empty() ? 0 : POLLOUT) |
                                       (traffic.ToReceive(peer).empty() ? 0 : POLLIN));
  }
  polled_.back() = {stop_event_.fd(), POLLIN, 0};
  return unfinished;
}

absl::Status TcpPump::MoveSome(Traffic& traffic, int peer, short events,
                               const std::string& subject) {
  const bool broken = (events & (POLLERR | POLLHUP | POLLNVAL)) != 0;
  // Receiving first: what a peer said before it went counts.
  if ((events & POLLIN) != 0 || broken) {
    if (!traffic.ToReceive(peer).empty()) {
      DW_RETURN_IF_ERROR(ReceiveSome(traffic, peer, subject));
    } else if (broken) {
      return Broken(traffic, peer, subject, "the connection was closed");
    }
  }
  if ((events & POLLOUT) != 0) return SendSome(traffic, peer, subject);
  return absl::OkStatus();
}

absl::Status TcpPump::ReceiveSome(Traffic& traffic, int peer, const std::string& subject) {
  const absl::Span<char> span = traffic.ToReceive(peer);
  const ssize_t got =
      recv(connections_[peer].fd(), span.data(), std::min<int64_t>(span.size(), kBytesAtOnce), 0);
  if (got > 0) {
    traffic.Received(peer, got);
  } else if (got == 0) {
    return Broken(traffic, peer, subject, "it closed the connection");
  } else if (errno != EAGAIN && errno != EINTR) {
    return Broken(traffic, peer, subject, std::strerror(errno));
  }
  return absl::OkStatus();
}

absl::Status TcpPump::SendSome(Traffic& traffic, int peer, const std::string& subject) {
  const absl::Span<const char> span = traffic.ToSend(peer);
  if (span.empty()) return absl::OkStatus();
  const ssize_t sent = send(connections_[peer].fd(), span.data(),
                            std::min<int64_t>(span.size(), kBytesAtOnce), MSG_NOSIGNAL);
  if (sent >= 0) {
    traffic.Sent(peer, sent);
  } else if (errno != EAGAIN && errno != EINTR) {
    return Broken(traffic, peer, subject, std::strerror(errno));
  }
  return absl::OkStatus();
}

void TcpPump::Stop() {
  stopped_ = true;
  const uint64_t one = 1;
  // Cannot fail: the counter of the event would have to overflow.
  static_cast<void>(!write(stop_event_.fd(), &one, sizeof(one)));
}

std::string TcpPump::Closed() const {
  std::vector<std::string> closed;
  for (int peer = 0; peer < size(); ++peer) {
    pollfd polled = {connections_[peer].fd(), POLLRDHUP, 0};
    if (polled.fd >= 0 && poll(&polled, 1, 0) > 0) closed.push_back(absl::StrCat(peer));
  }
  return First(std::move(closed));
}

absl::Status TcpPump::Broken(Traffic& traffic, int peer, const std::string& subject,
                             const std::string& why) const {
  if (stopped_) return absl::AbortedError(absl::StrCat(subject, ": Abort() was called"));
  // When one rank dies the others follow; who is gone by now helps to tell which was the first.
  return absl::UnavailableError(absl::StrCat(subject, ": rank ", peer, ": ", why, "; ",
                                             traffic.State(peer), "; gone by now: rank ",
                                             Closed()));
}

absl::Status TcpPump::Late(Traffic& traffic, const std::string& subject) const {
  return absl::DeadlineExceededError(
      absl::StrCat(subject, ": timed out, waiting for ", Waited(traffic)));
}

absl::Status TcpPump::Left(Traffic& traffic, const std::string& subject) const {
  return absl::UnavailableError(absl::StrCat(subject, ": connection closed by rank ", Closed(),
                                             ", and since then nothing came from ",
                                             Waited(traffic)));
}

std::string TcpPump::Waited(Traffic& traffic) const {
  std::vector<std::string> waited;
  for (int peer = 0; peer < size(); ++peer) {
    if (!connections_[peer].open() || traffic.Done(peer)) continue;
    waited.push_back(absl::StrCat("rank ", peer, " (", traffic.State(peer), ")"));
  }
  return First(std::move(waited));
}

}  // namespace deltaworks::trainer
