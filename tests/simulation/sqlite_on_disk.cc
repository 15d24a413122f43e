#include "tests/simulation/sqlite_on_disk.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "glog/logging.h"
#include "tests/simulation/simulated_disk.h"

namespace deltaworks::simulation {
namespace {

using Fate = SimulatedDisk::Fate;

// SQLite allocates it, so it is plain; methods first, as SQLite wants it.
struct OpenFile {
  sqlite3_file base;
  SimulatedDisk* disk;  // nullptr: a temporary file, which is its own and never fails.
  DiskFile* file;
};

OpenFile& Cast(sqlite3_file* file) { return *reinterpret_cast<OpenFile*>(file); }

// Makes the change as the disk decides; `error` is said if it fails.
template <typename Change>
int Write(SimulatedDisk* disk, int error, Change change) {
  const Fate fate = disk == nullptr ? Fate::kWritten : disk->OnWrite();
  if (fate == Fate::kWritten || fate == Fate::kWrittenFails) change();
  if (fate == Fate::kFull) return SQLITE_FULL;
  return fate == Fate::kWritten ? SQLITE_OK : error;
}

int Close(sqlite3_file* file) {
  if (Cast(file).disk == nullptr) delete Cast(file).file;
  return SQLITE_OK;
}

int Read(sqlite3_file* file, void* out, int count, sqlite3_int64 offset) {
  const absl::string_view bytes = Cast(file).file->bytes();
  const auto size = static_cast<sqlite3_int64>(bytes.size());
  const sqlite3_int64 got = std::clamp<sqlite3_int64>(size - offset, 0, count);
  if (got > 0) std::memcpy(out, bytes.data() + offset, static_cast<size_t>(got));
  if (got == count) return SQLITE_OK;
  std::memset(static_cast<char*>(out) + got, 0, static_cast<size_t>(count - got));
  return SQLITE_IOERR_SHORT_READ;
}

int WriteFile(sqlite3_file* file, const void* data, int count, sqlite3_int64 offset) {
  return Write(Cast(file).disk, SQLITE_IOERR_WRITE, [&] {
    Cast(file).file->Write(offset, {static_cast<const char*>(data), static_cast<size_t>(count)});
  });
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  return Write(Cast(file).disk, SQLITE_IOERR_TRUNCATE, [&] { Cast(file).file->Truncate(size); });
}

int Sync(sqlite3_file* file, int) {
  return Write(Cast(file).disk, SQLITE_IOERR_FSYNC, [&] { Cast(file).file->Sync(); });
}

int FileSize(sqlite3_file* file, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>(Cast(file).file->bytes().size());
  return SQLITE_OK;
}

int Lock(sqlite3_file*, int) { return SQLITE_OK; }
int CheckReservedLock(sqlite3_file*, int* held) {
  *held = 0;
  return SQLITE_OK;
}
int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int SectorSize(sqlite3_file*) { return 4096; }
int DeviceCharacteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

constexpr sqlite3_io_methods kMethods = {
    .iVersion = 1,
    .xClose = Close,
    .xRead = Read,
    .xWrite = WriteFile,
    .xTruncate = Truncate,
    .xSync = Sync,
    .xFileSize = FileSize,
    .xLock = Lock,
    .xUnlock = Lock,
    .xCheckReservedLock = CheckReservedLock,
    .xFileControl = FileControl,
    .xSectorSize = SectorSize,
    .xDeviceCharacteristics = DeviceCharacteristics,
};

int Open(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  OpenFile& open = Cast(file);
  open.base.pMethods = nullptr;
  open.disk = path == nullptr ? nullptr : SimulatedDisk::Find(path);
  if (path != nullptr && open.disk == nullptr) return SQLITE_CANTOPEN;
  open.file = path == nullptr ? new DiskFile : &open.disk->files()[path];
  open.base.pMethods = &kMethods;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

// Of a journal that is no longer needed: done at once, as if the folder were synced.
int Delete(sqlite3_vfs*, const char* path, int) {
  SimulatedDisk* const disk = SimulatedDisk::Find(path);
  return Write(disk, SQLITE_IOERR_DELETE, [&] { disk->files().erase(path); });
}

int Access(sqlite3_vfs*, const char* path, int, int* there) {
  SimulatedDisk* const disk = SimulatedDisk::Find(path);
  *there = disk != nullptr && disk->files().contains(path) ? 1 : 0;
  return SQLITE_OK;
}

int FullPathname(sqlite3_vfs*, const char* path, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

sqlite3_vfs* NewVfs() {
  const sqlite3_vfs* const system = sqlite3_vfs_find(nullptr);
  CHECK(system != nullptr);
  auto* const vfs = new sqlite3_vfs(*system);  // SQLite keeps it.
  vfs->szOsFile = sizeof(OpenFile);
  vfs->pNext = nullptr;
  vfs->zName = "simulated";
  vfs->xOpen = Open;
  vfs->xDelete = Delete;
  vfs->xAccess = Access;
  vfs->xFullPathname = FullPathname;
  return vfs;
}

}  // namespace

void PutSqliteOnSimulatedDisks() {
  static sqlite3_vfs* const vfs = NewVfs();
  CHECK_EQ(sqlite3_vfs_register(vfs, /*makeDflt=*/1), SQLITE_OK);
}

}  // namespace deltaworks::simulation
