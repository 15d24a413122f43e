#include "services/base/testing/raw_call.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::services {
namespace {

enum : char {
  kData = 0,
  kHeaders = 1,
  kReset = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kWindow = 8
};

int64_t Number(absl::string_view bytes) {
  int64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

// HPACK, literal without indexing, new name; lengths below 127.
void AppendHeader(std::string& out, const std::string& name, const std::string& value) {
  CHECK_LT(value.size(), 127u) << name;
  out += '\0';
  out += static_cast<char>(name.size());
  out += name;
  out += static_cast<char>(value.size());
  out += value;
}

}  // namespace

RawCall::RawCall(int port, const std::string& path, const std::string& token)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  PCHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) << port;
  const timeval timeout = {20, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  Write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  WriteFrame(kSettings, 0, 0, "");
  std::string headers;
  AppendHeader(headers, ":method", "POST");
  AppendHeader(headers, ":scheme", "http");
  AppendHeader(headers, ":path", path);
  AppendHeader(headers, ":authority", "x");
  AppendHeader(headers, "te", "trailers");
  AppendHeader(headers, "content-type", "application/grpc");
  AppendHeader(headers, "authorization", "Bearer " + token);
  WriteFrame(kHeaders, /*END_HEADERS*/ 4, 1, headers);
}

RawCall::~RawCall() { close(fd_); }

int64_t RawCall::Pour(uint32_t size) {
  std::string data(1, '\0');
  for (const int shift : {24, 16, 8, 0}) data += static_cast<char>((size >> shift) & 0xFF);
  for (int64_t left = int64_t{size} + 5; left > 0;) {
    while (connection_window_ <= 0 || stream_window_ <= 0) {
      if (!ReadFrame()) return reset_code_;
    }
    const int64_t count = std::min({left, connection_window_, stream_window_, int64_t{16384}});
    data.resize(static_cast<size_t>(count), 'x');
    WriteFrame(kData, 0, 1, data);
    data.clear();
    left -= count;
    poured_ += count;
    connection_window_ -= count;
    stream_window_ -= count;
  }
  return reset_code_;
}

void RawCall::Write(absl::string_view data) {
  while (!data.empty()) {
    const ssize_t count = send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
    if (count <= 0) return;
    data.remove_prefix(static_cast<size_t>(count));
  }
}

void RawCall::WriteFrame(char type, char flags, char stream, absl::string_view payload) {
  std::string frame;
  for (const int shift : {16, 8, 0}) frame += static_cast<char>((payload.size() >> shift) & 0xFF);
  frame += type;
  frame += flags;
  frame.append(3, '\0');
  frame += stream;
  Write(absl::StrCat(frame, payload));
}

bool RawCall::Read(size_t count, std::string& out) {
  out.resize(count);
  for (size_t got = 0; got < count;) {
    const ssize_t now = recv(fd_, &out[got], count - got, 0);
    if (now <= 0) return false;
    got += static_cast<size_t>(now);
  }
  return true;
}

bool RawCall::ReadFrame() {
  std::string head;
  std::string payload;
  if (!Read(9, head) || !Read(static_cast<size_t>(Number(head.substr(0, 3))), payload))
    return false;
  const int64_t stream = Number(head.substr(5));
  if (head[3] == kReset || head[3] == kGoAway) {
    reset_code_ = Number(head[3] == kReset ? payload : payload.substr(4, 4));
    return false;
  }
  if (head[3] == kWindow) {
    (stream == 0 ? connection_window_ : stream_window_) += Number(payload);
  } else if (head[3] == kPing && head[4] == 0) {
    WriteFrame(kPing, 1, 0, payload);
  } else if (head[3] == kSettings && head[4] == 0) {
    for (size_t i = 0; i + 6 <= payload.size(); i += 6) {
      if (Number(payload.substr(i, 2)) != 4) continue;  // INITIAL_WINDOW_SIZE
      const int64_t window = Number(payload.substr(i + 2, 4));
      stream_window_ += window - initial_window_;
      initial_window_ = window;
    }
    WriteFrame(kSettings, 1, 0, "");
  }
  return true;
}

}  // namespace deltaworks::services
