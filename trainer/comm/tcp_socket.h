// Sockets: an owned descriptor, "host:port", and a listener whose port is known before anybody
// connects. All sockets are non-blocking and closed by exec. Errors name the address and what the
// system said.

#ifndef DELTAWORKS_TRAINER_COMM_TCP_SOCKET_H_
#define DELTAWORKS_TRAINER_COMM_TCP_SOCKET_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// Closes on death. Thread-compatible.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { Close(); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    Close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_ = -1;
};

// Begins to connect to "host:port" or "[v6]:port"; the socket becomes writable when it is decided,
// and ConnectResult() tells. A host that has several addresses gives the one of number
// attempt % their number. A name is looked up by the system, within its own time limit.
//   InvalidArgument  not of that form.
//   Unavailable      no such host, or the system refused at once.
absl::StatusOr<Socket> BeginConnect(const std::string& address, int attempt);
absl::Status ConnectResult(const Socket& socket, const std::string& address);

class TcpListener {
 public:
  // Listens on `host` (an address of this machine: "127.0.0.1", "::", ...). Port 0: any free one.
  //   InvalidArgument  no such address, or a port outside 0..65535.
  //   Unavailable      the system refused, for example because the port is in use.
  static absl::StatusOr<std::unique_ptr<TcpListener>> Bind(const std::string& host, int port);

  int port() const { return port_; }
  // "host:port" with the host as given to Bind.
  const std::string& address() const { return address_; }
  int fd() const { return socket_.fd(); }

  // The next connection that waits; not open if none does.
  Socket Accept();

 private:
  TcpListener(Socket socket, int port, std::string address)
      : socket_(std::move(socket)), port_(port), address_(std::move(address)) {}
  const Socket socket_;
  const int port_;
  const std::string address_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TCP_SOCKET_H_
