#include "trainer/import/staging_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

absl::Status AlreadyThere(const std::string& target) {
  return absl::AlreadyExistsError(absl::StrCat(target, ": is there already, want no such folder"));
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StagingFolder>> StagingFolder::Create(const std::string& target) {
  static std::atomic<int64_t> next_number{0};
  std::string name = target;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  if (name.empty() || name == "/") {
    return absl::InvalidArgumentError("the folder to write is \"" + target + "\", want a new one");
  }
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::symlink_status(name, error))) {
    return AlreadyThere(name);
  }
  DW_RETURN_IF_ERROR(MakeDirectories(ParentOf(name)));
  std::string path = absl::StrCat(name, ".tmp.", getpid(), ".", next_number++);
  if (mkdir(path.c_str(), 0755) != 0) return ErrnoStatus(errno, path, "mkdir");
  return std::unique_ptr<StagingFolder>(new StagingFolder(std::move(name), std::move(path)));
}

StagingFolder::~StagingFolder() {
  if (committed_) return;
  std::error_code ignored;  // Nothing can be done about what cannot be removed.
  std::filesystem::remove_all(path_, ignored);
}

absl::Status StagingFolder::Commit() {
  if (rename(path_.c_str(), target_.c_str()) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) return AlreadyThere(target_);
    return ErrnoStatus(errno, target_, "rename");
  }
  committed_ = true;
  const std::string parent = ParentOf(target_);
  const int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, parent, "open");
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  return result == 0 ? absl::OkStatus() : ErrnoStatus(error, parent, "fsync");
}

}  // namespace deltaworks::trainer
