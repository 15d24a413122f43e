// NcclLibrary: NCCL's functions (nccl_api.h), found at run time. A value; copies are the same
// library.

#ifndef DELTAWORKS_TRAINER_COMM_NCCL_LIBRARY_H_
#define DELTAWORKS_TRAINER_COMM_NCCL_LIBRARY_H_

#include <string>

#include "absl/status/statusor.h"
#include "trainer/comm/nccl_api.h"

namespace deltaworks::trainer {

class NcclLibrary {
 public:
  static constexpr char kPathVariable[] = "DELTAWORKS_NCCL_LIBRARY";
  static constexpr char kDefaultPath[] = "libnccl.so.2";

  // Loads `path`; if empty, the file that the environment's DELTAWORKS_NCCL_LIBRARY names, or else
  // libnccl.so.2, wherever the loader finds it. It stays loaded as long as the process lives (NCCL
  // has threads of its own).
  //   FailedPrecondition  no such file, it lacks a function, or it is older than 2.14: names the
  //                       file and what is missing.
  static absl::StatusOr<NcclLibrary> Load(const std::string& path = "");

  const NcclFunctions& functions() const { return functions_; }
  const std::string& path() const { return path_; }
  int version() const { return version_; }  // 21400 is 2.14.0.

  // A new id, to be made by rank 0 and carried to the others by the caller.
  // Internal, naming NCCL's error, if it fails.
  absl::StatusOr<NcclUniqueId> MakeUniqueId() const;

 private:
  std::string path_;
  int version_ = 0;
  NcclFunctions functions_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_NCCL_LIBRARY_H_
