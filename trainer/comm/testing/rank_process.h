// RankProcess: a rank of a test as a process of its own, forked from the test, which must have one
// thread. The two speak in lines; whatever waits for one gives up after kPatience.

#ifndef DELTAWORKS_TRAINER_COMM_TESTING_RANK_PROCESS_H_
#define DELTAWORKS_TRAINER_COMM_TESTING_RANK_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::trainer {

// Longer than any test takes on a busy machine.
constexpr absl::Duration kPatience = absl::Seconds(60);

// One end of a conversation.
class Link {
 public:
  explicit Link(Socket socket) : socket_(std::move(socket)) {}

  void Say(std::string line);  // Newlines become blanks.
  // The next line, or "nothing more" if the other end is gone, or silent for kPatience.
  std::string Hear();

 private:
  Socket socket_;
  std::string heard_;
};

class RankProcess {
 public:
  // Runs `body` in a new process, says to the parent what it returns, and exits.
  explicit RankProcess(const std::function<std::string(Link& parent)>& body);
  ~RankProcess() { Kill(); }
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  Link& link() { return link_; }

  // SIGKILL, and waits until it is gone.
  void Kill();

 private:
  RankProcess(std::pair<Socket, Socket> ends, const std::function<std::string(Link&)>& body);
  pid_t pid_ = -1;
  Link link_;
};

void* MapShared(int64_t bytes);
void UnmapShared(void* data, int64_t bytes);

// `count` objects of T, zeroed, that this process and those forked from it share.
template <typename T>
class SharedArray {
 public:
  explicit SharedArray(int64_t count)
      : bytes_(count * sizeof(T) + 1), data_(static_cast<T*>(MapShared(bytes_))) {}
  ~SharedArray() { UnmapShared(data_, bytes_); }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;

  T* data() const { return data_; }

 private:
  const int64_t bytes_;
  T* const data_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TESTING_RANK_PROCESS_H_
