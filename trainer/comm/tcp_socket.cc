#include "trainer/comm/tcp_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int kBacklog = 1024;

struct HostPort {
  std::string host;
  std::string port;
};

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

std::optional<HostPort> Split(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos) return std::nullopt;
  absl::string_view host = address.substr(0, colon);
  const absl::string_view port = address.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != absl::string_view::npos) {
    return std::nullopt;
  }
  int number = 0;
  if (host.empty() || !absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return std::nullopt;
  }
  return HostPort{std::string(host), std::string(port)};
}

// Empty with `error` set if there is none.
AddressList Resolve(const HostPort& where, int flags, int* error) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  *error = getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &found);
  return AddressList(*error == 0 ? found : nullptr, &freeaddrinfo);
}

const addrinfo* Choose(const addrinfo* list, int number) {
  int length = 0;
  for (const addrinfo* each = list; each != nullptr; each = each->ai_next) ++length;
  for (number %= length; number > 0; --number) list = list->ai_next;
  return list;
}

absl::Status SystemError(absl::string_view address, absl::string_view call, int error) {
  return absl::UnavailableError(absl::StrCat(address, ": ", call, ": ", std::strerror(error)));
}

// Small messages are latency, large ones fill packets anyway.
void SendAtOnce(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

int PortOf(int fd) {
  sockaddr_storage name = {};
  socklen_t length = sizeof(name);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) return 0;
  return ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                          : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
}

}  // namespace

void Socket::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<Socket> BeginConnect(const std::string& address, int attempt) {
  const std::optional<HostPort> where = Split(address);
  if (!where.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("address is \"", address, "\", want host:port or [host]:port"));
  }
  int error = 0;
  const AddressList list = Resolve(*where, 0, &error);
  if (list == nullptr) {
    return absl::UnavailableError(absl::StrCat(address, ": lookup: ", gai_strerror(error)));
  }
  const addrinfo* target = Choose(list.get(), attempt);
  Socket socket(::socket(target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.open()) return SystemError(address, "socket", errno);
  SendAtOnce(socket.fd());
  if (connect(socket.fd(), target->ai_addr, target->ai_addrlen) != 0 && errno != EINPROGRESS) {
    return SystemError(address, "connect", errno);
  }
  return socket;
}

absl::Status ConnectResult(const Socket& socket, const std::string& address) {
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  return error == 0 ? absl::OkStatus() : SystemError(address, "connect", error);
}

absl::StatusOr<std::unique_ptr<TcpListener>> TcpListener::Bind(const std::string& host, int port) {
  if (port < 0 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("port is ", port, ", want 0..65535"));
  }
  int error = 0;
  const AddressList list = Resolve({host, absl::StrCat(port)}, AI_PASSIVE | AI_NUMERICHOST, &error);
  if (list == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("host is \"", host, "\", want an IPv4 or IPv6 address of this machine"));
  }
  const bool v6 = list->ai_family == AF_INET6;
  const std::string shown = v6 ? absl::StrCat("[", host, "]") : host;
  const std::string wanted = absl::StrCat(shown, ":", port);
  Socket socket(::socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.open()) return SystemError(wanted, "socket", errno);
  const int on = 1;
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(socket.fd(), list->ai_addr, list->ai_addrlen) != 0) {
    return SystemError(wanted, "bind", errno);
  }
  if (listen(socket.fd(), kBacklog) != 0) return SystemError(wanted, "listen", errno);
  const int bound = PortOf(socket.fd());
  return std::unique_ptr<TcpListener>(
      new TcpListener(std::move(socket), bound, absl::StrCat(shown, ":", bound)));
}

Socket TcpListener::Accept() {
  Socket socket(accept4(socket_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.open()) SendAtOnce(socket.fd());
  return socket;
}

}  // namespace deltaworks::trainer
