// Files: read-only maps, whole reads, and writes that are either whole or absent.
//
// Every error names the path and what the system said ("/x/y: open: No such file or directory").
// ENOENT is NotFound, EEXIST AlreadyExists, EACCES and EROFS PermissionDenied, ENOSPC and EDQUOT
// ResourceExhausted, anything else Internal.

#ifndef DELTAWORKS_TRAINER_BASE_FILE_H_
#define DELTAWORKS_TRAINER_BASE_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks {

// The status for `error` (an errno) of the system call `call` on `path`.
absl::Status ErrnoStatus(int error, absl::string_view path, absl::string_view call);

// A file mapped with PROT_READ, MAP_SHARED: all processes of a machine share its pages, and a
// write through it faults. The bytes live until the object dies. Immutable, so thread-safe.
class MappedFile {
 public:
  // An empty file maps to an empty view.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  // The same for a file that is open, whatever its path names by now; `fd` remains the caller's.
  static absl::StatusOr<std::unique_ptr<MappedFile>> OfDescriptor(int fd, const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, void* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  const std::string path_;
  void* const data_;
  const size_t size_;
};

// The whole file. ResourceExhausted if it is larger than `size_max` bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t size_max = 1 << 30);

// A new file that exists under `path` only after Commit(): it is written beside it as
// "path.tmp.PID.N" and removed if the object dies uncommitted. Thread-compatible.
class AtomicFile {
 public:
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  absl::Status Append(absl::string_view data);

  // Syncs the file, renames it over `path`, syncs the folder. After OK the bytes survive a crash
  // of the machine; after an error `path` is as it was.
  absl::Status Commit();

 private:
  AtomicFile(std::string path, std::string temp_path, int fd)
      : path_(std::move(path)), temp_path_(std::move(temp_path)), fd_(fd) {}
  const std::string path_;
  const std::string temp_path_;
  int fd_;
};

// AtomicFile in one call.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view data);

// Syncs the folder that `path` is in: a name made there survives a crash of the machine.
absl::Status SyncDirectoryOf(const std::string& path);

// mkdir -p. OK if it is there already.
absl::Status MakeDirectories(const std::string& path);

}  // namespace deltaworks

#endif  // DELTAWORKS_TRAINER_BASE_FILE_H_
