#include "tests/e2e/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::e2e {
namespace {

constexpr size_t kBytesOnTheWayMax = 64 << 10;  // Of a connection and direction.
constexpr int kBacklog = 64;

sockaddr_in Loopback(uint32_t host, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(host);
  return address;
}

const sockaddr* Generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

int NewSocket() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  PCHECK(fd >= 0);
  return fd;
}

void SendAtOnce(int fd) {
  const int on = 1;
  PCHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
}

// Begins to; the first write tells what came of it. From another address than that of services: the
// system gives ports out by address, so it is never the port of a service that is down.
int ConnectTo(int port) {
  const int fd = NewSocket();
  const int on = 1;
  PCHECK(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) == 0);
  const sockaddr_in own = Loopback(INADDR_LOOPBACK + 1, 0);
  PCHECK(bind(fd, Generic(own), sizeof(own)) == 0);
  SendAtOnce(fd);
  const sockaddr_in service = Loopback(INADDR_LOOPBACK, port);
  if (connect(fd, Generic(service), sizeof(service)) == 0 || errno == EINPROGRESS) return fd;
  close(fd);
  return -1;
}

void Reset(int fd) {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

bool WouldBlock() { return errno == EAGAIN || errno == EINTR; }

// Moves bytes on; `waiting` are those that `to` did not take yet. False if one of them is closed.
bool Pass(int from, int to, std::string& waiting) {
  if (waiting.empty()) {
    waiting.resize(kBytesOnTheWayMax);
    const ssize_t got = read(from, waiting.data(), waiting.size());
    if (got == 0 || (got < 0 && !WouldBlock())) return false;
    waiting.resize(static_cast<size_t>(got < 0 ? 0 : got));
  }
  if (waiting.empty()) return true;
  const ssize_t sent = send(to, waiting.data(), waiting.size(), MSG_NOSIGNAL);
  if (sent < 0) return WouldBlock();
  waiting.erase(0, static_cast<size_t>(sent));
  return true;
}

// What to wait for at a socket that `received` came from and `sent` goes to.
short Wanted(const std::string& received, const std::string& sent) {
  return static_cast<short>((received.empty() ? POLLIN : 0) | (sent.empty() ? 0 : POLLOUT));
}

bool IsBroken(const pollfd& polled) {
  return (polled.revents & (POLLERR | POLLNVAL)) != 0 ||
         (polled.revents & (POLLHUP | POLLIN)) == POLLHUP;
}

}  // namespace

struct Link::Connection {
  Connection(int client, int server) : client(client), server(server) {}
  ~Connection() {
    close(client);
    close(server);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  const int client;
  const int server;
  std::string up;  // From client to server.
  std::string down;
};

Link::Link(std::string from, std::string to, int port)
    : from_(std::move(from)), to_(std::move(to)), port_(port) {
  listener_ = NewSocket();
  sockaddr_in address = Loopback(INADDR_LOOPBACK, 0);
  PCHECK(bind(listener_, Generic(address), sizeof(address)) == 0);
  PCHECK(listen(listener_, kBacklog) == 0);
  socklen_t size = sizeof(address);
  PCHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  PCHECK(wake_ >= 0);
  thread_ = std::thread([this] { Run(); });
}

Link::~Link() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  close(listener_);
  close(wake_);
}

void Link::Set(State state) {
  {
    MutexLock lock(&mutex_);
    state_ = state;
    cut_ |= state == State::kRefuses;
  }
  Wake();
}

void Link::Cut() {
  {
    MutexLock lock(&mutex_);
    cut_ = true;
  }
  Wake();
}

void Link::Wake() const { PCHECK(eventfd_write(wake_, 1) == 0); }

void Link::Run() {
  while (true) {
    State state;
    {
      MutexLock lock(&mutex_);
      if (stopping_) return;
      state = state_;
      if (std::exchange(cut_, false)) ResetAll();
    }
    Turn(state);
  }
}

void Link::ResetAll() {
  for (const Connection& connection : connections_) {
    Reset(connection.client);
    Reset(connection.server);
  }
  connections_.clear();
}

void Link::Turn(State state) {
  std::vector<pollfd> polled = {{wake_, POLLIN, 0}};
  if (state != State::kSilent) {
    for (const Connection& connection : connections_) {
      polled.push_back({connection.client, Wanted(connection.up, connection.down), 0});
      polled.push_back({connection.server, Wanted(connection.down, connection.up), 0});
    }
    polled.push_back({listener_, POLLIN, 0});
  }
  if (poll(polled.data(), polled.size(), -1) < 0) {
    PCHECK(errno == EINTR);
    return;
  }
  eventfd_t ignored;
  if (polled[0].revents != 0) eventfd_read(wake_, &ignored);
  // From here on nobody changes what the link is to be.
  MutexLock lock(&mutex_);
  if (state == State::kSilent || state_ != state || cut_) return;
  auto at = polled.begin() + 1;
  for (auto connection = connections_.begin(); connection != connections_.end(); at += 2) {
    Connection& passing = *connection;
    const bool open = !IsBroken(at[0]) && !IsBroken(at[1]) &&
                      Pass(passing.client, passing.server, passing.up) &&
                      Pass(passing.server, passing.client, passing.down);
    connection = open ? std::next(connection) : connections_.erase(connection);
  }
  if (at->revents != 0) Accept(state);
}

void Link::Accept(State state) {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return;  // It has gone again.
  const int server = state == State::kPasses ? ConnectTo(port_) : -1;
  if (server < 0) {
    Reset(client);
    close(client);
    return;
  }
  SendAtOnce(client);
  connections_.emplace_back(client, server);
}

}  // namespace deltaworks::e2e
