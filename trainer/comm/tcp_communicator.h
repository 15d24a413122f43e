// TcpCommunicator: a Communicator over TCP, between CPUs of one machine or of many.
//
// Every two ranks have one connection (tcp_rendezvous.h), and all of them move at once
// (tcp_pump.h). An operation is: headers between all, then the data: a sum as in sum_traffic.h, a
// broadcast from the root to each. Data crosses the network in the machine's byte order and in
// clear. One operation uses up to 64 MiB of its own, kept for the next.

#ifndef DELTAWORKS_TRAINER_COMM_TCP_COMMUNICATOR_H_
#define DELTAWORKS_TRAINER_COMM_TCP_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "trainer/comm/communicator.h"
#include "trainer/comm/life.h"
#include "trainer/comm/message_header.h"
#include "trainer/comm/tcp_pump.h"
#include "trainer/comm/tcp_rendezvous.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::trainer {

class TcpCommunicator final : public Communicator {
 public:
  struct Options {
    TcpGang gang;
    absl::Duration timeout = absl::Minutes(2);  // Of each call, as a whole.
  };

  // Meets the other ranks: returns when all connections of this rank stand. Errors are MeetGang's.
  static absl::StatusOr<std::unique_ptr<TcpCommunicator>> Create(const Options& options,
                                                                 TcpListener& listener);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(connections_.size()); }
  absl::Status OrderedSum(float* data, int64_t count) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Barrier() override;
  void Abort() override;

  // Whether this communicator lives and all peers are connected, at this moment: Unavailable names
  // those that are not. From any thread, also during a call.
  absl::Status PeerStatus() const;

 private:
  TcpCommunicator(int rank, absl::Duration timeout, std::vector<Socket> connections,
                  Socket stop_event);

  // A header for the next operation, which all ranks have agreed on when it returns OK.
  absl::Status Begin(MessageHeader& mine, absl::Time deadline);
  absl::Status Die(absl::Status cause);
  absl::Status Finish(const MessageHeader& header, Traffic& traffic, absl::Time deadline);
  MessageHeader Header(Operation operation, int64_t count, int root) const;
  void CloseConnections();

  const int rank_;
  const absl::Duration timeout_;
  const std::vector<Socket> connections_;
  TcpPump pump_;
  Life life_;
  uint64_t sequence_ = 0;
  std::vector<float> windows_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TCP_COMMUNICATOR_H_
