// Whoever finds a port taken wants to know by whom.

#include "services/cli/local/port_owner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Listener {
 public:
  Listener() {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 1), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { close(fd_); }
  int port() const { return port_; }

 private:
  int fd_;
  int port_ = 0;
};

TEST(PortOwnerTest, ATakenPortIsRefusedWithTheProcessThatHasIt) {
  const Listener listener;
  const std::string address = absl::StrCat("127.0.0.1:", listener.port());
  const absl::Status status = CheckPortIsFree("the address of store,", address);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(absl::StrCat("the address of store, ", address, " is in use")),
                    HasSubstr(absl::StrCat("process ", getpid(), " (")),
                    HasSubstr("port_owner_test"), HasSubstr("--port_base")));
}

TEST(PortOwnerTest, AFreePortIsFree) {
  int port = 0;
  {
    const Listener listener;
    port = listener.port();
  }
  EXPECT_TRUE(CheckPortIsFree("x", absl::StrCat("127.0.0.1:", port)).ok());
  EXPECT_EQ(ListenerOfPort(port), std::nullopt);
  EXPECT_TRUE(CheckPortIsFree("x", "127.0.0.1:0").ok());
}

TEST(PortOwnerTest, AnAddressOfAnotherMachineIsRefused) {
  const absl::Status status = CheckPortIsFree("the address of store,", "192.0.2.1:7001");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("192.0.2.1:7001 cannot be listened on"));
}

}  // namespace
}  // namespace deltaworks::services
