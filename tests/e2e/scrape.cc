#include "tests/e2e/scrape.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

namespace deltaworks::e2e {
namespace {

std::string Get(const std::string& address) {
  const std::pair<std::string, std::string> host_port = absl::StrSplit(address, ':');
  int port = 0;
  CHECK(absl::SimpleAtoi(host_port.second, &port)) << address;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  CHECK_EQ(inet_pton(AF_INET, host_port.first.c_str(), &to.sin_addr), 1) << address;
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  PCHECK(fd >= 0);
  const timeval timeout = {20, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  PCHECK(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) << address;
  const std::string request =
      absl::StrCat("GET /metrics HTTP/1.0\r\nHost: ", address, "\r\nConnection: close\r\n\r\n");
  PCHECK(send(fd, request.data(), request.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(request.size()));
  std::string answer;
  char piece[4096];
  for (ssize_t count = 0; (count = recv(fd, piece, sizeof(piece), 0)) > 0;) {
    answer.append(piece, static_cast<size_t>(count));
  }
  close(fd);
  return answer;
}

}  // namespace

std::map<std::string, double> Scrape(const std::string& address) {
  const std::string answer = Get(address);
  CHECK(absl::StrContains(answer.substr(0, 16), " 200 ")) << address << ": " << answer;
  std::map<std::string, double> samples;
  for (absl::string_view line : absl::StrSplit(answer, '\n')) {
    line = absl::StripSuffix(line, "\r");
    const size_t space = line.rfind(' ');
    double value = 0;
    if (absl::StartsWith(line, "#") || space == absl::string_view::npos ||
        !absl::SimpleAtod(line.substr(space + 1), &value)) {
      continue;
    }
    samples[std::string(line.substr(0, space))] = value;
  }
  return samples;
}

double Sample(const std::map<std::string, double>& samples, const std::string& series) {
  const auto found = samples.find(series);
  return found == samples.end() ? 0 : found->second;
}

}  // namespace deltaworks::e2e
