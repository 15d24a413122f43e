#include "trainer/comm/tcp_rendezvous.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/communicator.h"
#include "trainer/comm/monotonic.h"
#include "trainer/comm/tcp_hello.h"

namespace deltaworks::trainer {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(10);
constexpr absl::Duration kPauseMax = absl::Seconds(1);
constexpr absl::Duration kAttemptMax = absl::Seconds(10);  // Of one connect.
constexpr absl::Duration kCancelledPoll = absl::Milliseconds(100);
constexpr int kAcceptedAtOnce = 64;

// A connection that we make.
struct Outgoing {
  enum class State { kPause, kConnect, kSend, kReceive, kDone };

  int peer = 0;
  State state = State::kPause;
  Socket socket;
  HelloBuffer out;
  HelloBuffer in;
  absl::Time wake;  // When the pause ends, or the attempt to connect.
  absl::Duration pause = kFirstPause;
  int attempts = 0;
  int refusals = 0;
  std::string trouble = "not tried";
};

// A connection that somebody made to us.
struct Incoming {
  Socket socket;
  HelloBuffer in;
  absl::Time deadline;
};

class Rendezvous {
 public:
  Rendezvous(const TcpGang& gang, TcpListener& listener)
      : gang_(gang),
        listener_(listener),
        deadline_(MonotonicNow() + gang.connect_timeout),
        connections_(gang.size()) {
    for (int peer = 0; peer < gang.rank; ++peer) {
      outgoing_.emplace_back().peer = peer;
    }
  }

  absl::StatusOr<std::vector<Socket>> Run() {
    while (missing() > 0) {
      const absl::Time now = MonotonicNow();
      if (now >= deadline_) return TooLate();
      if (gang_.cancelled && gang_.cancelled()) {
        return absl::AbortedError(absl::StrCat(Subject(), "the meeting is off"));
      }
      DropSilentStrangers(now);
      DW_RETURN_IF_ERROR(StartConnects(now));
      DW_RETURN_IF_ERROR(WaitAndHandle(now));
    }
    return std::move(connections_);
  }

 private:
  int missing() const {
    int open = 0;
    for (const Socket& each : connections_) open += each.open();
    return gang_.size() - 1 - open;
  }

  std::string Subject() const {
    return absl::StrCat("rank ", gang_.rank, " of ", gang_.size(), ": connect: ");
  }

  absl::Status TooLate() const {
    std::vector<std::string> reasons;
    for (const Outgoing& each : outgoing_) {
      if (each.state == Outgoing::State::kDone) continue;
      reasons.push_back(absl::StrCat("rank ", each.peer, " at ", gang_.addresses[each.peer], " (",
                                     each.trouble, ")"));
    }
    for (int peer = gang_.rank + 1; peer < gang_.size(); ++peer) {
      if (!connections_[peer].open()) reasons.push_back(absl::StrCat("rank ", peer));
    }
    const size_t count = reasons.size();
    reasons.resize(std::min<size_t>(count, 8));
    return absl::DeadlineExceededError(
        absl::StrCat(Subject(), count, " of ", gang_.size() - 1, " peers are missing after ",
                     absl::FormatDuration(gang_.connect_timeout), ": ",
                     absl::StrJoin(reasons, ", "), count > reasons.size() ? ", ..." : "", "; ",
                     strangers_, " connections to us were refused"));
  }

  void Refuse(std::list<Incoming>::iterator stranger) {
    incoming_.erase(stranger);
    ++strangers_;
  }

  void DropSilentStrangers(absl::Time now) {
    while (!incoming_.empty() && incoming_.front().deadline <= now) Refuse(incoming_.begin());
  }

  absl::Status StartConnects(absl::Time now) {
    for (Outgoing& each : outgoing_) {
      if (each.state == Outgoing::State::kConnect && each.wake <= now) {
        Pause(each, now, "no answer to connect");
      }
      if (each.state != Outgoing::State::kPause || each.wake > now) continue;
      absl::StatusOr<Socket> socket = BeginConnect(gang_.addresses[each.peer], each.attempts++);
      if (absl::IsInvalidArgument(socket.status())) return socket.status();
      if (!socket.ok()) {
        Pause(each, now, std::string(socket.status().message()));
        continue;
      }
      each.socket = *std::move(socket);
      each.state = Outgoing::State::kConnect;
      each.wake = now + kAttemptMax;
    }
    return absl::OkStatus();
  }

  void Pause(Outgoing& each, absl::Time now, std::string trouble) {
    each.socket.Close();
    each.state = Outgoing::State::kPause;
    each.wake = now + each.pause;
    each.pause = std::min(each.pause * 2, kPauseMax);
    each.trouble = std::move(trouble);
  }

  absl::Status WaitAndHandle(absl::Time now) {
    absl::Time wake = gang_.cancelled ? std::min(deadline_, now + kCancelledPoll) : deadline_;
    std::vector<pollfd> polled = {{listener_.fd(), POLLIN, 0}};
    for (const Outgoing& each : outgoing_) {
      if (each.state == Outgoing::State::kPause || each.state == Outgoing::State::kConnect) {
        wake = std::min(wake, each.wake);
      }
      const bool writes =
          each.state == Outgoing::State::kConnect || each.state == Outgoing::State::kSend;
      polled.push_back(
          {each.socket.fd(), static_cast<short>(writes ? POLLOUT : POLLIN), 0});  // -1: ignored.
    }
    for (const Incoming& each : incoming_) {
      wake = std::min(wake, each.deadline);
      polled.push_back({each.socket.fd(), POLLIN, 0});
    }
    const int64_t wait_ms =
        1 + std::clamp<int64_t>(absl::ToInt64Milliseconds(wake - now), 0, 60'000);
    if (poll(polled.data(), polled.size(), static_cast<int>(wait_ms)) < 0) {
      return errno == EINTR
                 ? absl::OkStatus()
                 : absl::InternalError(absl::StrCat(Subject(), "poll: ", std::strerror(errno)));
    }
    const absl::Time woken = MonotonicNow();
    auto event = polled.begin() + 1;
    for (Outgoing& each : outgoing_) {
      if ((event++)->revents != 0) DW_RETURN_IF_ERROR(Advance(each, woken));
    }
    for (auto each = incoming_.begin(); each != incoming_.end();) {
      const auto stranger = each++;
      if ((event++)->revents != 0) DW_RETURN_IF_ERROR(Advance(stranger));
    }
    if (polled[0].revents != 0) AcceptWaiting(woken);
    return absl::OkStatus();
  }

  Hello HelloTo(int peer) const { return MakeHello(gang_.token, gang_.rank, peer, gang_.size()); }

  // Whoever has our token and yet expects another gang was configured wrongly, as we were perhaps.
  absl::Status CheckPlace(const Hello& hello, int from_min, int from_max) const {
    if (hello.size == gang_.size() && hello.to == gang_.rank && hello.from >= from_min &&
        hello.from <= from_max) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat(Subject(), "a peer with our token says it is rank ", hello.from, " of ",
                     hello.size, " and wants rank ", hello.to, ", want one of rank ", from_min,
                     "..", from_max, " of ", gang_.size(), " that wants rank ", gang_.rank));
  }

  absl::Status Advance(Outgoing& each, absl::Time now) {
    using State = Outgoing::State;
    if (each.state == State::kConnect) {
      if (absl::Status status = ConnectResult(each.socket, gang_.addresses[each.peer]);
          !status.ok()) {
        Pause(each, now, std::string(status.message()));
        return absl::OkStatus();
      }
      each.out = {HelloTo(each.peer)};
      each.in = {};
      each.state = State::kSend;
      each.trouble = "connected, but it did not answer our hello";
    }
    Progress progress = Progress::kGoesOn;
    if (each.state == State::kSend) {
      progress = SendHello(each.socket, each.out);
      if (progress == Progress::kComplete) each.state = State::kReceive;
      if (progress != Progress::kBroken) return absl::OkStatus();
    } else if (each.state == State::kReceive) {
      progress = ReceiveHello(each.socket, each.in);
      if (progress == Progress::kGoesOn) return absl::OkStatus();
    }
    if (progress == Progress::kBroken) return Refused(each, now);
    if (!HasToken(each.in.hello, gang_.token)) {
      return absl::PermissionDeniedError(absl::StrCat(Subject(), "rank ", each.peer, " at ",
                                                      gang_.addresses[each.peer],
                                                      " answered without the gang's token"));
    }
    DW_RETURN_IF_ERROR(CheckPlace(each.in.hello, each.peer, each.peer));
    connections_[each.peer] = std::move(each.socket);
    each.state = State::kDone;
    return absl::OkStatus();
  }

  absl::Status Refused(Outgoing& each, absl::Time now) {
    if (++each.refusals < gang_.refusals_max) {
      Pause(each, now, "it closed on our hello");
      return absl::OkStatus();
    }
    return absl::PermissionDeniedError(absl::StrCat(
        Subject(), "rank ", each.peer, " at ", gang_.addresses[each.peer], " closed on our hello ",
        each.refusals, " times, want its own: another token?"));
  }

  absl::Status Advance(std::list<Incoming>::iterator each) {
    const Progress progress = ReceiveHello(each->socket, each->in);
    if (progress == Progress::kGoesOn) return absl::OkStatus();
    const Hello& hello = each->in.hello;
    if (progress == Progress::kBroken || !HasToken(hello, gang_.token)) {
      Refuse(each);
      return absl::OkStatus();
    }
    DW_RETURN_IF_ERROR(CheckPlace(hello, gang_.rank + 1, gang_.size() - 1));
    const int peer = hello.from;
    HelloBuffer answer = {HelloTo(peer)};
    // 64 bytes always fit into the buffer of a fresh connection, if it still stands.
    if (connections_[peer].open() || SendHello(each->socket, answer) != Progress::kComplete) {
      Refuse(each);
      return absl::OkStatus();
    }
    connections_[peer] = std::move(each->socket);
    incoming_.erase(each);
    return absl::OkStatus();
  }

  void AcceptWaiting(absl::Time now) {
    for (int i = 0; i < kAcceptedAtOnce; ++i) {
      Socket socket = listener_.Accept();
      if (!socket.open()) return;
      if (incoming_.size() >= gang_.unproven_max) Refuse(incoming_.begin());
      incoming_.push_back({std::move(socket), {}, now + gang_.hello_timeout});
    }
  }

  const TcpGang& gang_;
  TcpListener& listener_;
  const absl::Time deadline_;
  std::vector<Socket> connections_;
  std::vector<Outgoing> outgoing_;
  std::list<Incoming> incoming_;  // In the order of their deadlines.
  int64_t strangers_ = 0;
};

absl::Status CheckBetween(absl::string_view name, int64_t got, int64_t least, int64_t most) {
  if (got >= least && got <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", got, ", want ", least, "..", most));
}

}  // namespace

absl::StatusOr<std::vector<Socket>> MeetGang(const TcpGang& gang, TcpListener& listener) {
  DW_RETURN_IF_ERROR(CheckBetween("size", gang.size(), 1, Communicator::kSizeMax));
  DW_RETURN_IF_ERROR(CheckBetween("rank", gang.rank, 0, gang.size() - 1));
  DW_RETURN_IF_ERROR(CheckBetween("bytes of token", gang.token.size(), TcpGang::kTokenBytes,
                                  TcpGang::kTokenBytes));
  DW_RETURN_IF_ERROR(CheckBetween("unproven_max", gang.unproven_max, 1, 4096));
  DW_RETURN_IF_ERROR(CheckBetween("refusals_max", gang.refusals_max, 1, 100));
  return Rendezvous(gang, listener).Run();
}

}  // namespace deltaworks::trainer
