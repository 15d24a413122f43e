// RotatingLog: a log file of bounded size. When FILE has reached bytes_max it becomes FILE.1,
// FILE.1 becomes FILE.2, and what was FILE.2 is gone. Appends to what is there.
//
// What cannot be written (a full disk) is dropped: a process must not stand still because nobody
// can keep its log. How many bytes are missing is said in the log as soon as it can be written
// again. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_ROTATING_LOG_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_ROTATING_LOG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace deltaworks::services {

inline constexpr int64_t kLogBytesMax = int64_t{16} << 20;

class RotatingLog {
 public:
  explicit RotatingLog(std::string path, int64_t bytes_max = kLogBytesMax);
  ~RotatingLog();
  RotatingLog(const RotatingLog&) = delete;
  RotatingLog& operator=(const RotatingLog&) = delete;

  void Append(absl::string_view text);

 private:
  void Open();
  void Rotate();
  // Returns what could not be written.
  absl::string_view Write(absl::string_view text);

  const std::string path_;
  const int64_t bytes_max_;
  int fd_ = -1;
  int64_t size_ = 0;
  int64_t bytes_dropped_ = 0;  // Not told yet.
};

// The last lines of a log, at most `lines_max`, from the last that contains `since` on (from the
// beginning if none does). Empty if there is no such file.
std::vector<std::string> LogTail(const std::string& path, int lines_max, absl::string_view since);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_ROTATING_LOG_H_
