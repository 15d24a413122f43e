#include "trainer/comm/testing/rank_process.h"

#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "trainer/comm/monotonic.h"

namespace deltaworks::trainer {
namespace {

std::pair<Socket, Socket> TwoEnds() {
  int ends[2];
  PCHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {Socket(ends[0]), Socket(ends[1])};
}

}  // namespace

void Link::Say(std::string line) {
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  static_cast<void>(!send(socket_.fd(), line.data(), line.size(), MSG_NOSIGNAL));
}

std::string Link::Hear() {
  const absl::Time deadline = MonotonicNow() + kPatience;
  while (true) {
    if (const size_t end = heard_.find('\n'); end != std::string::npos) {
      std::string line = heard_.substr(0, end);
      heard_.erase(0, end + 1);
      return line;
    }
    pollfd polled = {socket_.fd(), POLLIN, 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - MonotonicNow());
    char buffer[4096];
    ssize_t got = 0;
    if (left_ms > 0 && poll(&polled, 1, static_cast<int>(left_ms)) > 0) {
      got = recv(socket_.fd(), buffer, sizeof(buffer), 0);
    }
    if (got <= 0) return "nothing more";
    heard_.append(buffer, got);
  }
}

RankProcess::RankProcess(const std::function<std::string(Link& parent)>& body)
    : RankProcess(TwoEnds(), body) {}

RankProcess::RankProcess(std::pair<Socket, Socket> ends,
                         const std::function<std::string(Link&)>& body)
    : pid_(fork()), link_(std::move(pid_ == 0 ? ends.second : ends.first)) {
  PCHECK(pid_ >= 0);
  if (pid_ != 0) return;
  ends.first.Close();
  link_.Say(body(link_));
  _exit(0);  // The child has nothing of the test's to clean up, and must not try.
}

void RankProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void* MapShared(int64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  PCHECK(data != MAP_FAILED);
  return data;
}

void UnmapShared(void* data, int64_t bytes) { PCHECK(munmap(data, bytes) == 0); }

}  // namespace deltaworks::trainer
