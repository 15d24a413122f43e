#include "services/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

TEST(AddressTest, HostsAndPortsAreParsedAndWrittenBack) {
  for (const char* text : {"127.0.0.1:0", "[::1]:50051", "localhost:65535"}) {
    const auto parsed = ParseHostPort("address", text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(FormatHostPort(*parsed), text);
  }
  for (const char* text : {"", "127.0.0.1", ":1", "::1:7", "h:-1", "h:65536", "h:x"}) {
    const auto parsed = ParseHostPort("address", text);
    ASSERT_TRUE(absl::IsInvalidArgument(parsed.status())) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("want HOST:PORT"));
  }
}

TEST(AddressTest, LoopbackIsToldFromTheRest) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "localhost"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example.com", ""}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(AddressTest, APortInUseIsSaidSo) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string text = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  EXPECT_EQ(ListenError("address", text),
            absl::FailedPreconditionError(absl::StrCat(
                "address is ", text, ": in use by another process; stop it or choose another")));
  close(fd);
}

TEST(AddressTest, AForeignAddressIsSaidSo) {
  EXPECT_THAT(std::string(ListenError("address", "192.0.2.1:1").message()),
              HasSubstr("not an address of this machine"));
}

}  // namespace
}  // namespace deltaworks::services
