// Meeting: the place where the ranks of one test's gang meet, over either implementation. Made
// before they are forked.

#ifndef DELTAWORKS_TRAINER_COMM_TESTING_MEETING_H_
#define DELTAWORKS_TRAINER_COMM_TESTING_MEETING_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "trainer/comm/communicator.h"
#include "trainer/comm/tcp_communicator.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::trainer {

enum class CommunicatorKind { kTcp, kNccl };

// A communicator and what it stands on. Destroyed from the top down.
class Member {
 public:
  virtual ~Member() = default;
  virtual Communicator& communicator() = 0;
};

class Meeting {
 public:
  // Listens on ports of its own choice, for `size` ranks.
  Meeting(CommunicatorKind kind, int size, const std::string& host = "127.0.0.1");

  int size() const { return static_cast<int>(listeners_.size()); }
  TcpCommunicator::Options options(int rank, absl::Duration timeout) const;
  TcpListener& listener(int rank) { return *listeners_[rank]; }

  // To be called in the process of `rank`.
  absl::StatusOr<std::unique_ptr<Member>> Join(int rank, absl::Duration timeout);

 private:
  const CommunicatorKind kind_;
  std::vector<std::unique_ptr<TcpListener>> listeners_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TESTING_MEETING_H_
