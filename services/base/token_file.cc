#include "services/base/token_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "services/base/log.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kFileBytesMax = 16 << 20;
constexpr size_t kTokenBytesMax = 1024;

// Closes a descriptor on every path out of a function.
class FdCloser {
 public:
  explicit FdCloser(int fd) : fd_(fd) {}
  ~FdCloser() { close(fd_); }
  FdCloser(const FdCloser&) = delete;
  FdCloser& operator=(const FdCloser&) = delete;

 private:
  const int fd_;
};

absl::Status CheckMode(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path, "stat");
  if ((info.st_mode & 0077) == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrFormat("%s: mode is %04o, want 0600: chmod 600 %s",
                                                     path, info.st_mode & 07777, path));
}

absl::Status WriteAll(int fd, const std::string& path, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t count = write(fd, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, path, "write");
    data.remove_prefix(static_cast<size_t>(count));
  }
  return fsync(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path, "fsync");
}

absl::Status CheckTenantWord(absl::string_view tenant) {
  return tenant == kAllTenants ? absl::OkStatus() : CheckResourceId("tenant", tenant);
}

}  // namespace

TokenFile::Stamp TokenFile::StampOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return {};
  return {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino), info.st_size,
          info.st_ctim.tv_sec * 1'000'000'000 + info.st_ctim.tv_nsec};
}

absl::StatusOr<TokenFile::Tenants> TokenFile::Read(const std::string& path) {
  DW_RETURN_IF_ERROR(CheckMode(path));
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kFileBytesMax));
  Tenants tenants;
  int64_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    // The line is not quoted: it may hold a token that somebody pasted by mistake.
    if (words.size() != 2 || !IsSha256Digest(words[0]) || !CheckTenantWord(words[1]).ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": line ", line_number, " is not \"sha256:DIGEST TENANT\""));
    }
    tenants[words[0]] = std::string(words[1]);
  }
  return tenants;
}

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Open(const std::string& path) {
  std::unique_ptr<TokenFile> file(new TokenFile(path));
  MutexLock lock(&file->mutex_);
  file->stamp_ = StampOf(path);
  DW_ASSIGN_OR_RETURN(file->tenants_, Read(path));
  return file;
}

void TokenFile::ReloadIfChanged() {
  const Stamp stamp = StampOf(path_);
  if (stamp == stamp_) return;
  stamp_ = stamp;
  absl::StatusOr<Tenants> tenants = Read(path_);
  if (!tenants.ok()) {
    LogError("token file not read again; the tokens read before stay in force",
             {{"error", tenants.status()}});
    return;
  }
  tenants_ = *std::move(tenants);
  LogInfo("token file read again", {{"tokens", static_cast<int64_t>(tenants_.size())}});
}

std::optional<Caller> TokenFile::Find(absl::string_view token) {
  if (token.empty() || token.size() > kTokenBytesMax) return std::nullopt;
  const std::string digest = Sha256Digest(token);
  MutexLock lock(&mutex_);
  ReloadIfChanged();
  const auto found = tenants_.find(digest);
  if (found == tenants_.end()) return std::nullopt;
  return Caller{found->second};
}

absl::StatusOr<std::string> TokenFile::AddToken(const std::string& path, absl::string_view tenant) {
  DW_RETURN_IF_ERROR(CheckTenantWord(tenant));
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, path, "open");
  const FdCloser closer(fd);
  DW_RETURN_IF_ERROR(CheckMode(path));
  // A file edited by hand may lack its last newline.
  DW_ASSIGN_OR_RETURN(const std::string before, ReadFile(path, kFileBytesMax));
  const bool cut = !before.empty() && before.back() != '\n';
  const std::string token = absl::StrCat("dw_", absl::WebSafeBase64Escape(RandomBytes(32)));
  DW_RETURN_IF_ERROR(
      WriteAll(fd, path, absl::StrCat(cut ? "\n" : "", Sha256Digest(token), " ", tenant, "\n")));
  return token;
}

absl::StatusOr<std::string> ReadSecretFile(const std::string& path) {
  DW_RETURN_IF_ERROR(CheckMode(path));
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kTokenBytesMax));
  const std::string secret(absl::StripAsciiWhitespace(text));
  if (secret.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": empty, want a token"));
  return secret;
}

absl::Status WriteSecretFile(const std::string& path, absl::string_view secret) {
  const std::string temp = absl::StrCat(path, ".tmp.", getpid());
  unlink(temp.c_str());
  const int fd = open(temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, temp, "open");
  const FdCloser closer(fd);
  DW_RETURN_IF_ERROR(WriteAll(fd, temp, absl::StrCat(secret, "\n")));
  return rename(temp.c_str(), path.c_str()) == 0 ? absl::OkStatus()
                                                 : ErrnoStatus(errno, path, "rename");
}

}  // namespace deltaworks::services
