// A link between two sockets of the test: what is said on one side is heard on the other, or not,
// as the link is told.

#include "tests/e2e/link.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/time/time.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

namespace deltaworks::e2e {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);
// What never comes is waited for so long.
constexpr absl::Duration kSilence = absl::Milliseconds(100);

sockaddr_in AddressOf(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

class Socket {
 public:
  explicit Socket(int fd = socket(AF_INET, SOCK_STREAM, 0)) : fd_(fd) { PCHECK(fd_ >= 0); }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Returns the port.
  int Listen() {
    sockaddr_in address = AddressOf(0);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    PCHECK(bind(fd_, generic, size) == 0 && listen(fd_, 8) == 0);
    PCHECK(getsockname(fd_, generic, &size) == 0);
    return ntohs(address.sin_port);
  }
  int Accept() {
    CHECK(Readable(kPatience)) << "nobody comes";
    return accept(fd_, nullptr, nullptr);
  }
  void Connect(const Link& link) {
    const sockaddr_in address = AddressOf(std::atoi(link.address().c_str() + sizeof("127.0.0.1")));
    PCHECK(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  }

  void Say(const std::string& text) {
    PCHECK(send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
  }
  bool Readable(absl::Duration patience) {
    pollfd polled = {fd_, POLLIN, 0};
    return poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) == 1;
  }
  // What comes next; "closed" if the other side hung up.
  std::string Hear() {
    if (!Readable(kPatience)) return "nothing";
    char text[64];
    const ssize_t got = read(fd_, text, sizeof(text));
    return got > 0 ? std::string(text, static_cast<size_t>(got)) : "closed";
  }

 private:
  const int fd_;
};

class LinkTest : public ::testing::Test {
 protected:
  Socket listener_;
  Link link_{"client", "server", listener_.Listen()};
};

TEST_F(LinkTest, PassesBothWaysAndTheEndToo) {
  Socket client;
  client.Connect(link_);
  {
    Socket server(listener_.Accept());
    client.Say("ping");
    EXPECT_EQ(server.Hear(), "ping");
    server.Say("pong");
    EXPECT_EQ(client.Hear(), "pong");
  }
  EXPECT_EQ(client.Hear(), "closed");
}

TEST_F(LinkTest, ASilentOneKeepsWhatIsSaidUntilItPassesAgain) {
  Socket client;
  client.Connect(link_);
  Socket server(listener_.Accept());
  link_.Set(Link::State::kSilent);
  client.Say("ping");
  EXPECT_FALSE(server.Readable(kSilence));
  Socket late;
  late.Connect(link_);
  EXPECT_FALSE(listener_.Readable(kSilence));
  link_.Set(Link::State::kPasses);
  EXPECT_EQ(server.Hear(), "ping");
  Socket other(listener_.Accept());
  late.Say("late");
  EXPECT_EQ(other.Hear(), "late");
}

TEST_F(LinkTest, ARefusingOneHangsUpOnEverybody) {
  Socket client;
  client.Connect(link_);
  Socket server(listener_.Accept());
  link_.Set(Link::State::kRefuses);
  EXPECT_EQ(client.Hear(), "closed");
  EXPECT_EQ(server.Hear(), "closed");
  Socket late;
  late.Connect(link_);
  EXPECT_EQ(late.Hear(), "closed");
}

TEST_F(LinkTest, ACutEndsTheConnectionsThereAreAndNoOther) {
  Socket client;
  client.Connect(link_);
  Socket server(listener_.Accept());
  link_.Cut();
  EXPECT_EQ(client.Hear(), "closed");
  Socket next;
  next.Connect(link_);
  Socket other(listener_.Accept());
  next.Say("next");
  EXPECT_EQ(other.Hear(), "next");
}

TEST_F(LinkTest, AServerThatIsAwayIsAConnectionThatEnds) {
  Link nowhere("client", "nobody", Socket().Listen());
  Socket client;
  client.Connect(nowhere);
  EXPECT_EQ(client.Hear(), "closed");
}

}  // namespace
}  // namespace deltaworks::e2e
