// Hello: the first 64 bytes of every connection of a gang, in both directions: who speaks, to whom,
// and the gang's token.

#ifndef DELTAWORKS_TRAINER_COMM_TCP_HELLO_H_
#define DELTAWORKS_TRAINER_COMM_TCP_HELLO_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "trainer/comm/tcp_socket.h"

namespace deltaworks::trainer {

struct Hello {
  static constexpr int kTokenBytes = 32;

  uint64_t magic = 0x31304f4c4c454844;  // "DHELLO01".
  char token[kTokenBytes] = {};
  int32_t from = 0;
  int32_t to = 0;
  int32_t size = 0;
  uint8_t reserved[12] = {};
};
static_assert(sizeof(Hello) == 64);

// `token` has kTokenBytes bytes.
Hello MakeHello(const std::string& token, int from, int to, int size);

// Whether `hello` is one, with this token; in a time that does not depend on where they differ.
bool HasToken(const Hello& hello, const std::string& token);

// A hello on its way out or in.
struct HelloBuffer {
  Hello hello;
  size_t done = 0;

  bool complete() const { return done == sizeof(hello); }
};

enum class Progress { kGoesOn, kComplete, kBroken };

// Moves what the socket takes or has now. kBroken: it is closed, or failed.
Progress SendHello(const Socket& socket, HelloBuffer& buffer);
Progress ReceiveHello(const Socket& socket, HelloBuffer& buffer);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TCP_HELLO_H_
