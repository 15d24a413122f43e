// A disk that becomes full, for tests: a library to preload (LD_PRELOAD) into a whole program,
// whose writes to files under one folder fail with ENOSPC once so many bytes were written there.
// Like a real disk it writes what still fits first, and what was written stays.
//
//   FULL_DISK_FOLDER       everything under it is on the disk that fills; need not exist yet
//   FULL_DISK_AFTER_BYTES  how many bytes fit, over the life of the process; 0: none
//   FULL_DISK_ROOM_FILE    optional; while this file exists there is room for everything, and what
//                          is written meanwhile does not count
//
// Without the first two nothing is changed. It stands in for write, pwrite, writev, pwritev,
// fallocate, posix_fallocate, copy_file_range, sendfile, and ftruncate that makes a file longer;
// not for stdio (glibc writes for itself there) nor for mapped files. Bytes written over old ones
// count as new. Where a file lies is asked at each write, so renamed files are found, too.
// Thread-safe.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

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
  bool on = false;

  Disk() {
    const char* bytes = std::getenv("FULL_DISK_AFTER_BYTES");
    on = folder != nullptr && bytes != nullptr;
    if (on) room = std::atoll(bytes);
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

// How many of `wanted` bytes fit, which are taken; -1 with ENOSPC if none does.
ssize_t Take(size_t wanted) {
  std::atomic<long long>& room = TheDisk().room;
  long long left = room.load();
  while (true) {
    const long long taken = left < static_cast<long long>(wanted) ? left : wanted;
    if (taken <= 0 && wanted > 0) {
      errno = ENOSPC;
      return -1;
    }
    if (room.compare_exchange_weak(left, left - taken)) return static_cast<ssize_t>(taken);
  }
}

// All or nothing, as fallocate is.
bool TakeAll(off_t wanted) {
  std::atomic<long long>& room = TheDisk().room;
  long long left = room.load();
  while (left >= wanted) {
    if (room.compare_exchange_weak(left, left - wanted)) return true;
  }
  errno = ENOSPC;
  return false;
}

// By how much a file would grow to have `size` bytes.
off_t Growth(int fd, off_t size) {
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size >= size) return 0;
  return size - info.st_size;
}

size_t Total(const struct iovec* pieces, int count) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += pieces[i].iov_len;
  return total;
}

// Only the first piece is written: callers must take short writes anyway.
template <typename WriteFirst>
ssize_t WritePieces(const struct iovec* pieces, int count, const WriteFirst& write_first) {
  for (int i = 0; i < count; ++i) {
    if (pieces[i].iov_len == 0) continue;
    const ssize_t fits = Take(pieces[i].iov_len);
    return fits < 0 ? -1 : write_first(pieces[i].iov_base, static_cast<size_t>(fits));
  }
  return 0;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t size) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t)>("write");
  if (!OnDisk(fd)) return real(fd, data, size);
  const ssize_t fits = Take(size);
  return fits < 0 ? -1 : real(fd, data, static_cast<size_t>(fits));
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  if (!OnDisk(fd)) return real(fd, data, size, offset);
  const ssize_t fits = Take(size);
  return fits < 0 ? -1 : real(fd, data, static_cast<size_t>(fits), offset);
}

ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
  return pwrite(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec* pieces, int count) {
  static const auto real = Real<ssize_t (*)(int, const struct iovec*, int)>("writev");
  if (!OnDisk(fd) || Total(pieces, count) == 0) return real(fd, pieces, count);
  static const auto one = Real<ssize_t (*)(int, const void*, size_t)>("write");
  return WritePieces(pieces, count,
                     [&](const void* data, size_t size) { return one(fd, data, size); });
}

ssize_t pwritev(int fd, const struct iovec* pieces, int count, off_t offset) {
  static const auto real = Real<ssize_t (*)(int, const struct iovec*, int, off_t)>("pwritev");
  if (!OnDisk(fd) || Total(pieces, count) == 0) return real(fd, pieces, count, offset);
  static const auto one = Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return WritePieces(pieces, count,
                     [&](const void* data, size_t size) { return one(fd, data, size, offset); });
}

ssize_t pwritev64(int fd, const struct iovec* pieces, int count, off_t offset) {
  return pwritev(fd, pieces, count, offset);
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
    if (!fits) return ENOSPC;
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
  if (OnDisk(to)) {
    const ssize_t fits = Take(size);
    if (fits < 0) return -1;
    size = static_cast<size_t>(fits);
  }
  return real(from, from_offset, to, to_offset, size, flags);
}

ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept {
  static const auto real = Real<ssize_t (*)(int, int, off_t*, size_t)>("sendfile");
  if (OnDisk(to)) {
    const ssize_t fits = Take(size);
    if (fits < 0) return -1;
    size = static_cast<size_t>(fits);
  }
  return real(to, from, offset, size);
}

ssize_t sendfile64(int to, int from, off_t* offset, size_t size) noexcept {
  return sendfile(to, from, offset, size);
}

}  // extern "C"
