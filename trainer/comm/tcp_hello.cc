#include "trainer/comm/tcp_hello.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace deltaworks::trainer {
namespace {

char* Rest(HelloBuffer& buffer) { return reinterpret_cast<char*>(&buffer.hello) + buffer.done; }

size_t RestBytes(const HelloBuffer& buffer) { return sizeof(Hello) - buffer.done; }

Progress After(ssize_t result, HelloBuffer& buffer) {
  if (result < 0 && (errno == EAGAIN || errno == EINTR)) return Progress::kGoesOn;
  if (result <= 0) return Progress::kBroken;
  buffer.done += result;
  return buffer.complete() ? Progress::kComplete : Progress::kGoesOn;
}

}  // namespace

Hello MakeHello(const std::string& token, int from, int to, int size) {
  Hello hello;
  std::memcpy(hello.token, token.data(), sizeof(hello.token));
  hello.from = from;
  hello.to = to;
  hello.size = size;
  return hello;
}

bool HasToken(const Hello& hello, const std::string& token) {
  // Volatile, so that the compiler cannot end the loop at the first difference.
  volatile unsigned char difference = 0;
  for (int i = 0; i < Hello::kTokenBytes; ++i) {
    difference = static_cast<unsigned char>(difference | (hello.token[i] ^ token[i]));
  }
  return difference == 0 && hello.magic == Hello().magic;
}

Progress SendHello(const Socket& socket, HelloBuffer& buffer) {
  return After(send(socket.fd(), Rest(buffer), RestBytes(buffer), MSG_NOSIGNAL), buffer);
}

Progress ReceiveHello(const Socket& socket, HelloBuffer& buffer) {
  return After(recv(socket.fd(), Rest(buffer), RestBytes(buffer), 0), buffer);
}

}  // namespace deltaworks::trainer
