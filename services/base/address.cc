#include "services/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

absl::Status Refuse(absl::string_view field, absl::string_view address) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", JsonQuote(address.substr(0, 200)),
                                                 ", want HOST:PORT, such as 127.0.0.1:50051"));
}

std::string Numeric(const HostPort& address) {
  return address.host == "localhost" ? "127.0.0.1" : address.host;
}

// The socket address; 0 if the host is not numeric.
socklen_t ToSocketAddress(const HostPort& address, sockaddr_storage& out) {
  out = {};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out);
  if (inet_pton(AF_INET, Numeric(address).c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(address.port));
    return sizeof(*v4);
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out);
  if (inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(address.port));
    return sizeof(*v6);
  }
  return 0;
}

// The errno of an attempt to listen there; 0 if it worked.
int TryToListen(const sockaddr_storage& address, socklen_t size) {
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  int error = 0;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 || listen(fd, 1) != 0) {
    error = errno;
  }
  close(fd);
  return error;
}

}  // namespace

absl::StatusOr<HostPort> ParseHostPort(absl::string_view field, absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == address.npos) return Refuse(field, address);
  HostPort result;
  absl::string_view host = address.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ":")) {
    return Refuse(field, address);
  }
  result.host = std::string(host);
  if (host.empty() || !absl::SimpleAtoi(address.substr(colon + 1), &result.port) ||
      result.port < 0 || result.port > 65535) {
    return Refuse(field, address);
  }
  return result;
}

std::string FormatHostPort(const HostPort& address) {
  if (absl::StrContains(address.host, ":")) {
    return absl::StrCat("[", address.host, "]:", address.port);
  }
  return absl::StrCat(address.host, ":", address.port);
}

absl::Status CheckListenAddress(absl::string_view field, absl::string_view address) {
  DW_ASSIGN_OR_RETURN(const HostPort parsed, ParseHostPort(field, address));
  sockaddr_storage socket_address;
  return ToSocketAddress(parsed, socket_address) > 0 ? absl::OkStatus() : Refuse(field, address);
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost") return true;
  sockaddr_storage address;
  if (ToSocketAddress({std::string(host), 0}, address) == 0) return false;
  if (address.ss_family == AF_INET) {
    return (ntohl(reinterpret_cast<sockaddr_in*>(&address)->sin_addr.s_addr) >> 24) == 127;
  }
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr);
}

absl::Status ListenError(absl::string_view field, absl::string_view address) {
  DW_ASSIGN_OR_RETURN(const HostPort parsed, ParseHostPort(field, address));
  sockaddr_storage socket_address;
  const socklen_t size = ToSocketAddress(parsed, socket_address);
  if (size == 0) return Refuse(field, address);
  const int error = TryToListen(socket_address, size);
  std::string why = "could not listen";
  if (error == EADDRINUSE) {
    why = "in use by another process; stop it or choose another";
  } else if (error == EADDRNOTAVAIL) {
    why = "not an address of this machine; choose another";
  } else if (error == EACCES) {
    why = "this user may not listen there; choose a port of 1024 or more";
  } else if (error != 0) {
    why = strerror(error);
  }
  return absl::FailedPreconditionError(absl::StrCat(field, " is ", address, ": ", why));
}

void TouchListener(const HostPort& address) {
  sockaddr_storage socket_address;
  const socklen_t size = ToSocketAddress(address, socket_address);
  const int fd = socket(socket_address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  static_cast<void>(connect(fd, reinterpret_cast<const sockaddr*>(&socket_address), size));
  close(fd);
}

}  // namespace deltaworks::services
