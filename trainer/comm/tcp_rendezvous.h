// MeetGang: how the ranks of a gang find each other: one TCP connection between any two.
//
// Each rank connects to every rank below it and is connected to by every rank above it. Both sides
// begin with a hello of 64 bytes: who speaks, to whom, and the token of the gang. A connection
// whose first 64 bytes are not the hello of this gang is closed without an answer, so a stranger
// learns nothing and takes no rank's place; it may be silent for hello_timeout, and at most
// unproven_max strangers are listened to at once (the oldest goes first).
//
// The token keeps strangers out; it does not hide what is sent. Use it on a network whose machines
// are trusted not to listen.
//
// Addresses of all ranks are given, rather than rank 0's alone: a rank then need not guess under
// which of its addresses another one reaches it.

#ifndef DELTAWORKS_TRAINER_COMM_TCP_RENDEZVOUS_H_
#define DELTAWORKS_TRAINER_COMM_TCP_RENDEZVOUS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "trainer/comm/tcp_hello.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::trainer {

struct TcpGang {
  static constexpr int kTokenBytes = Hello::kTokenBytes;  // 32.

  int rank = 0;
  std::vector<std::string> addresses;  // "host:port" of each rank, in rank order: 1..1024.
  std::string token;                   // 32 bytes, random, the same on all ranks, never reused.

  absl::Duration connect_timeout = absl::Minutes(1);  // For all connections together.
  absl::Duration hello_timeout = absl::Seconds(5);    // For a stranger to prove itself.
  int unproven_max = 64;                              // 1..4096.
  // Asked ten times a second; once true, the meeting is off. Empty: never.
  std::function<bool()> cancelled;
  int refusals_max = 8;  // How often a peer may close on our hello before we give up: 1..100.

  int size() const { return static_cast<int>(addresses.size()); }
};

// The connections, in rank order; one's own is not open. `listener` is where
// addresses[rank] leads; it may be used again for the next gang, but not by two at a time.
//   InvalidArgument     a field is out of bounds, or a peer with our token expects another gang.
//   PermissionDenied    a peer closed on our hello refusals_max times: it has another token.
//   Aborted             `cancelled`.
//   DeadlineExceeded    connect_timeout passed; names who is missing and why.
absl::StatusOr<std::vector<Socket>> MeetGang(const TcpGang& gang, TcpListener& listener);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TCP_RENDEZVOUS_H_
