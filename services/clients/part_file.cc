#include "services/clients/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "services/base/manifest.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

absl::StatusOr<std::unique_ptr<PartFile>> PartFile::Open(const std::string& path) {
  std::string part_path = path + ".part";
  const int fd = open(part_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, part_path, "open");
  return std::unique_ptr<PartFile>(new PartFile(path, std::move(part_path), fd));
}

PartFile::~PartFile() { close(fd_); }

absl::StatusOr<int64_t> PartFile::KeepVerified(const v1::ManifestFile& file) {
  int64_t offset = 0;
  std::string chunk;
  for (const std::string& digest : file.chunk_digests()) {
    chunk.resize(static_cast<size_t>(std::min(kChunkBytes, file.size_bytes() - offset)));
    if (!Read(offset, &chunk).ok() || Sha256Digest(chunk) != digest) break;
    offset += static_cast<int64_t>(chunk.size());
  }
  if (ftruncate(fd_, offset) != 0) return ErrnoStatus(errno, part_path_, "ftruncate");
  return offset;
}

absl::Status PartFile::Append(int64_t offset, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t count = pwrite(fd_, data.data(), data.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, part_path_, "write");
    offset += count;
    data.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status PartFile::Read(int64_t offset, std::string* data) const {
  size_t done = 0;
  while (done < data->size()) {
    const ssize_t count =
        pread(fd_, data->data() + done, data->size() - done, offset + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, part_path_, "read");
    if (count == 0) {
      return absl::OutOfRangeError(
          absl::StrCat(part_path_, ": ", done, " bytes at ", offset, ", want ", data->size()));
    }
    done += static_cast<size_t>(count);
  }
  return absl::OkStatus();
}

absl::Status PartFile::Finish() {
  if (fchmod(fd_, 0444) != 0) return ErrnoStatus(errno, part_path_, "chmod");
  if (fsync(fd_) != 0) return ErrnoStatus(errno, part_path_, "fsync");
  if (rename(part_path_.c_str(), path_.c_str()) != 0) return ErrnoStatus(errno, path_, "rename");
  return SyncDirectoryOf(path_);
}

}  // namespace deltaworks::services
