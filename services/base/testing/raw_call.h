// RawCall: just enough HTTP/2 to open one gRPC call and pour bytes into it as fast as the server
// lets us: a message that announces 4 GiB is something that no client library would send.
// For tests; CHECK-fails if it cannot connect. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_BASE_TESTING_RAW_CALL_H_
#define DELTAWORKS_SERVICES_BASE_TESTING_RAW_CALL_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::services {

class RawCall {
 public:
  // `path` is "/deltaworks.v1.StoreService/GetDataset"; like the token shorter than 120 bytes.
  RawCall(int port, const std::string& path, const std::string& token);
  ~RawCall();
  RawCall(const RawCall&) = delete;
  RawCall& operator=(const RawCall&) = delete;

  // Sends a message that announces `size` bytes, until all are sent or the server ends the call.
  // Returns the error code of HTTP/2, -1 if there was none.
  int64_t Pour(uint32_t size);
  int64_t poured() const { return poured_; }

 private:
  void Write(absl::string_view data);
  void WriteFrame(char type, char flags, char stream, absl::string_view payload);
  bool Read(size_t count, std::string& out);
  // False: the call or the connection has ended.
  bool ReadFrame();

  const int fd_;
  int64_t connection_window_ = 65535;
  int64_t stream_window_ = 65535;
  int64_t initial_window_ = 65535;
  int64_t reset_code_ = -1;
  int64_t poured_ = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_TESTING_RAW_CALL_H_
