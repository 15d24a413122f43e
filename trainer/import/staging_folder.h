// StagingFolder: a folder that appears whole or not at all. It is filled under another name beside
// its place ("target.tmp.PID.N") and renamed there by Commit(); if the object dies before, it is
// removed with all it holds. Only a killed process can leave one behind. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_IMPORT_STAGING_FOLDER_H_
#define DELTAWORKS_TRAINER_IMPORT_STAGING_FOLDER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace deltaworks::trainer {

class StagingFolder {
 public:
  // Makes the parents of `target`, too. AlreadyExists if there is anything at `target`; else the
  // errors of trainer/base/file.h.
  static absl::StatusOr<std::unique_ptr<StagingFolder>> Create(const std::string& target);
  ~StagingFolder();
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;

  // Where to write. Files must be synced by who writes them, as AtomicFile does.
  const std::string& path() const { return path_; }

  // Renames the folder to its target and syncs the parent. AlreadyExists if another came first.
  absl::Status Commit();

 private:
  StagingFolder(std::string target, std::string path)
      : target_(std::move(target)), path_(std::move(path)) {}
  const std::string target_;
  const std::string path_;
  bool committed_ = false;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_STAGING_FOLDER_H_
