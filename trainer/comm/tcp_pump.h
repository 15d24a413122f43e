// TcpPump: moves the bytes of one operation between a rank and all its peers, both ways at once.
//
// What is to go where is a Traffic's; the pump only waits until sockets are ready, so that nobody
// can deadlock by sending while nobody reads. One per communicator; Run from one thread, Stop from
// any.

#ifndef DELTAWORKS_TRAINER_COMM_TCP_PUMP_H_
#define DELTAWORKS_TRAINER_COMM_TCP_PUMP_H_

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::trainer {

// The bytes of one operation. What ToSend and ToReceive return may be used until the next call of
// any function.
class Traffic {
 public:
  virtual ~Traffic() = default;

  // What can go to `peer` now; empty: nothing, until something was received, or ever.
  virtual absl::Span<const char> ToSend(int peer) = 0;
  // The first `bytes` of ToSend are with the system.
  virtual void Sent(int peer, int64_t bytes) = 0;

  // Where the next bytes of `peer` belong; empty: nowhere, until others sent theirs, or ever.
  virtual absl::Span<char> ToReceive(int peer) = 0;
  // The first `bytes` of ToReceive are filled.
  virtual void Received(int peer, int64_t bytes) = 0;

  // Whether everything has gone to and come from `peer`.
  virtual bool Done(int peer) const = 0;
  // How far it is with `peer`: "received 0 of 64 bytes and sent 64 of 64".
  virtual std::string State(int peer) const = 0;
};

class TcpPump {
 public:
  static constexpr absl::Duration kGrace = absl::Seconds(2);

  // connections[rank] is not open. Does not own them; they must outlive the pump.
  TcpPump(const std::vector<Socket>& connections, Socket stop_event);

  // Runs `traffic` to its end.
  //   Unavailable       a connection broke that still had something to do. Or a peer that had
  //   nothing
  //                     more to do left, and then nothing moved for kGrace: whoever is waited for
  //                     has perhaps no reason to come any more. (While something moves, to leave
  //                     early is no offence: after the gang's last operation, somebody is first.)
  //   DeadlineExceeded  `deadline` passed; names the peers that were waited for.
  //   Aborted           Stop() was called.
  // `subject` begins every message.
  absl::Status Run(Traffic& traffic, absl::Time deadline, const std::string& subject);

  // Makes Run return Aborted, now and for ever.
  void Stop();

  // The peers that have closed their side, "1, 3"; empty if none. From any thread.
  std::string Closed() const;

 private:
  absl::Status Broken(Traffic& traffic, int peer, const std::string& subject,
                      const std::string& why) const;
  absl::Status Late(Traffic& traffic, const std::string& subject) const;
  absl::Status Left(Traffic& traffic, const std::string& subject) const;
  std::string Waited(Traffic& traffic) const;
  // Asks poll for what `traffic` can do now. False if it is at its end.
  bool Arm(Traffic& traffic, bool somebody_left);
  absl::Status MoveSome(Traffic& traffic, int peer, short events, const std::string& subject);
  absl::Status ReceiveSome(Traffic& traffic, int peer, const std::string& subject);
  absl::Status SendSome(Traffic& traffic, int peer, const std::string& subject);
  int size() const { return static_cast<int>(connections_.size()); }

  const std::vector<Socket>& connections_;
  const Socket stop_event_;
  std::atomic<bool> stopped_ = false;
  std::vector<pollfd> polled_;  // One per rank, then stop_event_.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TCP_PUMP_H_
