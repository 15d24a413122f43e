#include "tests/e2e/disk.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/e2e/service.h"
#include "trainer/base/file.h"

namespace deltaworks::e2e {

std::vector<std::string> Disk::Environment(int64_t after_bytes, const std::string& error) const {
  return {absl::StrCat("LD_PRELOAD=", ProgramPath("tests/full_disk/libfull_disk.so")),
          absl::StrCat("FULL_DISK_FOLDER=", folder_),
          absl::StrCat("FULL_DISK_AFTER_BYTES=", after_bytes),
          absl::StrCat("FULL_DISK_ERROR=", error),
          absl::StrCat("FULL_DISK_ROOM_FILE=", room_file_)};
}

void Disk::MakeRoom() const {
  const absl::Status status = WriteFileAtomically(room_file_, "");
  CHECK(status.ok()) << status;
}

void Disk::TakeRoom() const { std::filesystem::remove(room_file_); }

}  // namespace deltaworks::e2e
