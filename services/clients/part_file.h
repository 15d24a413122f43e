// PartFile: a file on its way to this disk: "NAME.part" holds verified chunks from the beginning
// and nothing else, until Finish() gives it its name. Whoever comes after an interruption goes on
// where it ended. Errors name the path. Thread-compatible; one process at a time.

#ifndef DELTAWORKS_SERVICES_CLIENTS_PART_FILE_H_
#define DELTAWORKS_SERVICES_CLIENTS_PART_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/store_service.pb.h"

namespace deltaworks::services {

class PartFile {
 public:
  // Of the file `path`.
  static absl::StatusOr<std::unique_ptr<PartFile>> Open(const std::string& path);
  ~PartFile();

  // Keeps the leading chunks that are right; returns their bytes.
  absl::StatusOr<int64_t> KeepVerified(const v1::ManifestFile& file);
  absl::Status Append(int64_t offset, absl::string_view data);
  // Fills `data`. OutOfRange if there are fewer bytes.
  absl::Status Read(int64_t offset, std::string* data) const;
  // Read-only (0444), synced and under its name.
  absl::Status Finish();

 private:
  PartFile(std::string path, std::string part_path, int fd)
      : path_(std::move(path)), part_path_(std::move(part_path)), fd_(fd) {}
  const std::string path_;
  const std::string part_path_;
  const int fd_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_PART_FILE_H_
