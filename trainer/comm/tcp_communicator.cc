#include "trainer/comm/tcp_communicator.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/life.h"
#include "trainer/comm/monotonic.h"
#include "trainer/comm/plain_traffic.h"
#include "trainer/comm/sum_traffic.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<TcpCommunicator>> TcpCommunicator::Create(const Options& options,
                                                                         TcpListener& listener) {
  Socket stop_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event.open()) {
    return absl::InternalError(absl::StrCat("eventfd: ", std::strerror(errno)));
  }
  DW_ASSIGN_OR_RETURN(std::vector<Socket> connections, MeetGang(options.gang, listener));
  return std::unique_ptr<TcpCommunicator>(new TcpCommunicator(
      options.gang.rank, options.timeout, std::move(connections), std::move(stop_event)));
}

TcpCommunicator::TcpCommunicator(int rank, absl::Duration timeout, std::vector<Socket> connections,
                                 Socket stop_event)
    : rank_(rank),
      timeout_(timeout),
      connections_(std::move(connections)),
      pump_(connections_, std::move(stop_event)) {}

absl::Status TcpCommunicator::OrderedSum(float* data, int64_t count) {
  const absl::Time deadline = MonotonicNow() + timeout_;
  MessageHeader mine = Header(Operation::kOrderedSum, count, 0);
  DW_RETURN_IF_ERROR(Begin(mine, deadline));
  if (size() == 1 || count == 0) return absl::OkStatus();
  const int64_t window_floats = SumTraffic::WindowFloats(count, size(), rank_);
  if (windows_.size() < window_floats) windows_.resize(window_floats);
  SumTraffic traffic(data, count, size(), rank_, windows_.data());
  return Finish(mine, traffic, deadline);
}

absl::Status TcpCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  const absl::Time deadline = MonotonicNow() + timeout_;
  MessageHeader mine = Header(Operation::kBroadcast, bytes, root);
  DW_RETURN_IF_ERROR(Begin(mine, deadline));
  PlainTraffic traffic(size());
  for (int peer = 0; peer < size() && rank_ == root; ++peer) {
    if (peer != rank_) traffic.AddSend(peer, data, bytes);
  }
  if (rank_ != root) traffic.AddReceive(root, data, bytes);
  return Finish(mine, traffic, deadline);
}

absl::Status TcpCommunicator::Barrier() {
  MessageHeader mine = Header(Operation::kBarrier, 0, 0);
  return Begin(mine, MonotonicNow() + timeout_);
}

MessageHeader TcpCommunicator::Header(Operation operation, int64_t count, int root) const {
  MessageHeader header;
  header.sequence = sequence_ + 1;
  header.operation = operation;
  header.root = root;
  header.count = count;
  header.rank = rank_;
  header.size = size();
  return header;
}

absl::Status TcpCommunicator::Begin(MessageHeader& mine, absl::Time deadline) {
  DW_RETURN_IF_ERROR(life_.status());
  DW_RETURN_IF_ERROR(CheckBounds(mine));
  ++sequence_;
  std::vector<MessageHeader> all(size());
  all[rank_] = mine;
  PlainTraffic headers(size());
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    headers.AddSend(peer, &mine, sizeof(mine));
    headers.AddReceive(peer, &all[peer], sizeof(MessageHeader));
  }
  // All are heard before any is judged: by then everybody has heard us, and judges the same.
  DW_RETURN_IF_ERROR(Finish(mine, headers, deadline));
  absl::Status agreed = CheckHeaders(mine, all);
  return agreed.ok() ? agreed : Die(std::move(agreed));
}

absl::Status TcpCommunicator::Finish(const MessageHeader& header, Traffic& traffic,
                                     absl::Time deadline) {
  absl::Status status = pump_.Run(traffic, deadline, Describe(header));
  return status.ok() ? status : Die(std::move(status));
}

absl::Status TcpCommunicator::Die(absl::Status cause) {
  absl::Status first = life_.End(std::move(cause));
  CloseConnections();
  return first;
}

void TcpCommunicator::CloseConnections() {
  // Not close(): another thread may be waiting on them.
  for (const Socket& each : connections_) {
    if (each.open()) shutdown(each.fd(), SHUT_RDWR);
  }
}

void TcpCommunicator::Abort() {
  pump_.Stop();
  static_cast<void>(Die(
      absl::AbortedError(absl::StrCat("rank ", rank_, " of ", size(), ": Abort() was called"))));
}

absl::Status TcpCommunicator::PeerStatus() const {
  DW_RETURN_IF_ERROR(life_.status());
  const std::string closed = pump_.Closed();
  if (closed.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("rank ", rank_, " of ", size(), ": connection closed by rank ", closed));
}

}  // namespace deltaworks::trainer
