// A disk that becomes full, for tests: a library to preload (LD_PRELOAD) into a whole program,
// whose writes to files under one folder fail with ENOSPC once so many bytes were written there.
// Like a real disk it writes what still fits first, and what was written stays.
//
//   FULL_DISK_FOLDER       everything under it is on the disk that fills; need not exist yet
//   FULL_DISK_AFTER_BYTES  how many bytes fit, over the life of the process; 0: none
//   FULL_DISK_ERROR        optional; the error instead of ENOSPC: EIO of a disk that is gone, EROFS
//   of
//                          one that became read-only
//   FULL_DISK_ROOM_FILE    optional; while this file exists there is room for everything, and what
//                          is written meanwhile does not count
//
// Without the first two nothing is changed. It stands in for write, pwrite, writev, fallocate,
// posix_fallocate, copy_file_range, sendfile, and ftruncate that makes a file longer; not for
// pwritev, stdio (glibc writes for itself there) nor mapped files. Bytes written over old ones
// count as new. Where a file lies is asked at each write, so renamed files are found, too.
// Thread-safe.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Disk {
  const char* folder = std::getenv("FULL_DISK_FOLDER");
  const char* room_file = std::getenv("FULL_DISK_ROOM_FILE");
  // `folder` as the system writes it, once it exists.
  std::atomic<const char*> real_folder{nullptr};
  std::atomic<long long> room{0};
  int error = ENOSPC;
  bool on = false;

  Disk() {
    const char* bytes = std::getenv("FULL_DISK_AFTER_BYTES");
    on = folder != nullptr && bytes != nullptr;
    if (on) room = std::atoll(bytes);
    const char* name = std::getenv("FULL_DISK_ERROR");
    if (name == nullptr) return;
    if (std::strcmp(name, "EIO") == 0) error = EIO;
    if (std::strcmp(name, "EROFS") == 0) error = EROFS;
  }
};

Disk& TheDisk() {
  static Disk* const disk = new Disk;  // Never destroyed: programs write until they are gone.
  return *disk;
}

// The function that this library stands in front of.
template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

// Null while the folder does not exist.
const char* RealFolder() {
  Disk& disk = TheDisk();
  const char* folder = disk.real_folder.load();
  if (folder == nullptr) {
    folder = realpath(disk.folder, nullptr);
    disk.real_folder.store(folder);  // Threads that do this at once all find the same.
  }
  return folder;
}

// True if `fd` is a file on the disk that fills. Keeps errno.
bool OnDisk(int fd) {
  const Disk& disk = TheDisk();
  if (!disk.on) return false;
  const int saved = errno;
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof(path) - 1);
  bool inside = false;
  if (const char* const folder = RealFolder(); size > 0 && folder != nullptr) {
    path[size] = '\0';
    const size_t length = std::strlen(folder);
    inside =
        std::strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
  }
  const bool has_room = disk.room_file != nullptr && access(disk.room_file, F_OK) == 0;
  errno = saved;
  return inside && !has_room;
}

// How many of `wanted` bytes fit, which are taken; -1 with the error if none does.
ssize_t Take(size_t wanted) {
  std::atomic<long long>& room = TheDisk().room;
  long long left = room.load();
  while (true) {
    const long long taken = left < static_cast<long long>(wanted) ? left : wanted;
    if (taken <= 0 && wanted > 0) {
      errno = TheDisk().error;
      return -1;
    }
    if (room.compare_exchange_weak(left, left - taken)) return static_cast<ssize_t>(taken);
  }
}

// Calls write(count) for as many of `wanted` bytes as fit; only what it wrote counts.
template <typename Write>
ssize_t WriteWhatFits(size_t wanted, const Write& write) {
  const ssize_t fits = Take(wanted);
  if (fits < 0) return -1;
  const ssize_t written = write(static_cast<size_t>(fits));
  TheDisk().room += fits - (written < 0 ? 0 : written);
  return written;
}

// How many of `wanted` bytes a file still has from `offset`, or from where it is if that is null:
// copying nothing needs no room. `wanted` if it cannot be said.
size_t LeftIn(int fd, const off_t* offset, size_t wanted) {
  const int saved = errno;
  struct stat info;
  const off_t at = offset != nullptr ? *offset : lseek(fd, 0, SEEK_CUR);
  const bool known = at >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  errno = saved;
  if (!known) return wanted;
  const auto left = static_cast<size_t>(info.st_size > at ? info.st_size - at : 0);
  return left < wanted ? left : wanted;
}

// All or nothing, as fallocate is.
bool TakeAll(off_t wanted) {
  std::atomic<long long>& room = TheDisk().room;
  long long left = room.load();
  while (left >= wanted) {
    if (room.compare_exchange_weak(left, left - wanted)) return true;
  }
  errno = TheDisk().error;
  return false;
}

// By how much a file would grow to have `size` bytes.
off_t Growth(int fd, off_t size) {
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size >= size) return 0;
  return size - info.st_size;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t size) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t)>("write");
  if (!OnDisk(fd)) return real(fd, data, size);
  return WriteWhatFits(size, [&](size_t fits) { return real(fd, data, fits); });
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  if (!OnDisk(fd)) return real(fd, data, size, offset);
  return WriteWhatFits(size, [&](size_t fits) { return real(fd, data, fits, offset); });
}

ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
  return pwrite(fd, data, size, offset);
}

// Only the first piece is written: callers must take short writes anyway.
ssize_t writev(int fd, const struct iovec* pieces, int count) {
  static const auto real = Real<ssize_t (*)(int, const struct iovec*, int)>("writev");
  if (!OnDisk(fd)) return real(fd, pieces, count);
  const struct iovec* const end = pieces + count;
  const struct iovec* const first =
      std::find_if(pieces, end, [](const struct iovec& piece) { return piece.iov_len > 0; });
  return first == end ? real(fd, pieces, count) : write(fd, first->iov_base, first->iov_len);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  static const auto real = Real<int (*)(int, int, off_t, off_t)>("fallocate");
  // Modes other than plain and KEEP_SIZE free room rather than take it.
  const bool takes = (mode & ~FALLOC_FL_KEEP_SIZE) == 0;
  if (takes && OnDisk(fd) && !TakeAll(Growth(fd, offset + size))) return -1;
  return real(fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off_t offset, off_t size) {
  return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size) {
  static const auto real = Real<int (*)(int, off_t, off_t)>("posix_fallocate");
  if (OnDisk(fd)) {
    const int saved = errno;
    const bool fits = TakeAll(Growth(fd, offset + size));
    errno = saved;
    if (!fits) return TheDisk().error;
  }
  return real(fd, offset, size);
}

int posix_fallocate64(int fd, off_t offset, off_t size) {
  return posix_fallocate(fd, offset, size);
}

int ftruncate(int fd, off_t size) noexcept {
  static const auto real = Real<int (*)(int, off_t)>("ftruncate");
  if (OnDisk(fd) && !TakeAll(Growth(fd, size))) return -1;
  return real(fd, size);
}

int ftruncate64(int fd, off_t size) noexcept { return ftruncate(fd, size); }

ssize_t copy_file_range(int from, off_t* from_offset, int to, off_t* to_offset, size_t size,
                        unsigned flags) {
  using Function = ssize_t (*)(int, off_t*, int, off_t*, size_t, unsigned);
  static const auto real = Real<Function>("copy_file_range");
  const auto copy = [&](size_t count) {
    return real(from, from_offset, to, to_offset, count, flags);
  };
  if (!OnDisk(to)) return copy(size);
  return WriteWhatFits(LeftIn(from, from_offset, size), copy);
}

ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept {
  static const auto real = Real<ssize_t (*)(int, int, off_t*, size_t)>("sendfile");
  const auto copy = [&](size_t count) { return real(to, from, offset, count); };
  if (!OnDisk(to)) return copy(size);
  return WriteWhatFits(LeftIn(from, offset, size), copy);
}

ssize_t sendfile64(int to, int from, off_t* offset, size_t size) noexcept {
  return sendfile(to, from, offset, size);
}

}  // extern "C"
