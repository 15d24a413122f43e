#include "services/cli/local/rotating_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kTailBytesMax = 64 << 10;

}  // namespace

RotatingLog::RotatingLog(std::string path, int64_t bytes_max)
    : path_(std::move(path)), bytes_max_(bytes_max) {
  Open();
}

RotatingLog::~RotatingLog() {
  if (fd_ >= 0) close(fd_);
}

void RotatingLog::Open() {
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  struct stat info;
  size_ = fd_ >= 0 && fstat(fd_, &info) == 0 ? info.st_size : 0;
}

void RotatingLog::Rotate() {
  if (fd_ >= 0) close(fd_);
  std::rename((path_ + ".1").c_str(), (path_ + ".2").c_str());
  std::rename(path_.c_str(), (path_ + ".1").c_str());
  Open();
}

void RotatingLog::Append(absl::string_view text) {
  if (fd_ < 0) Open();
  if (size_ >= bytes_max_) Rotate();
  if (bytes_dropped_ > 0) {
    const std::string gap =
        absl::StrCat("\n(", bytes_dropped_, " bytes are missing: they could not be written)\n");
    if (Write(gap).empty()) bytes_dropped_ = 0;
  }
  bytes_dropped_ += static_cast<int64_t>(Write(text).size());
}

absl::string_view RotatingLog::Write(absl::string_view text) {
  while (fd_ >= 0 && !text.empty()) {
    const ssize_t count = write(fd_, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) break;
    size_ += count;
    text.remove_prefix(static_cast<size_t>(count));
  }
  return text;
}

std::vector<std::string> LogTail(const std::string& path, int lines_max, absl::string_view since) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const int64_t size = file.tellg();
  const int64_t count = std::min(size, kTailBytesMax);
  std::string text(static_cast<size_t>(count), '\0');
  file.seekg(size - count);
  file.read(text.data(), count);
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (count < size) lines.erase(lines.begin());  // Cut in the middle.
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  const auto mark = std::find_if(lines.rbegin(), lines.rend(), [&](const std::string& line) {
    return absl::StrContains(line, since);
  });
  if (mark != lines.rend()) lines.erase(lines.begin(), mark.base() - 1);
  if (lines.size() > static_cast<size_t>(lines_max)) {
    lines.erase(lines.begin(), lines.end() - lines_max);
  }
  return lines;
}

}  // namespace deltaworks::services
