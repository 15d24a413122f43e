#include "trainer/comm/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int kVersionMin = 21400;  // The first with non-blocking communicators.

template <typename Function>
absl::Status Find(void* library, const std::string& path, const char* name, Function*& function) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("NCCL: ", path, " has no function ", name, ", want NCCL 2.14 or later"));
  }
  function = reinterpret_cast<Function*>(symbol);
  return absl::OkStatus();
}

absl::Status FindAll(void* library, const std::string& path, NcclFunctions& f) {
  DW_RETURN_IF_ERROR(Find(library, path, "ncclGetVersion", f.GetVersion));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclGetUniqueId", f.GetUniqueId));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclCommInitRankConfig", f.CommInitRankConfig));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclCommGetAsyncError", f.CommGetAsyncError));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclCommAbort", f.CommAbort));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclCommDestroy", f.CommDestroy));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclGroupStart", f.GroupStart));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclGroupEnd", f.GroupEnd));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclSend", f.Send));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclRecv", f.Recv));
  DW_RETURN_IF_ERROR(Find(library, path, "ncclBroadcast", f.Broadcast));
  return Find(library, path, "ncclGetErrorString", f.GetErrorString);
}

std::string ChoosePath(const std::string& path) {
  if (!path.empty()) return path;
  const char* named = std::getenv(NcclLibrary::kPathVariable);
  return named != nullptr && *named != '\0' ? named : NcclLibrary::kDefaultPath;
}

}  // namespace

absl::StatusOr<NcclLibrary> NcclLibrary::Load(const std::string& path) {
  NcclLibrary library;
  library.path_ = ChoosePath(path);
  void* const handle = dlopen(library.path_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "NCCL: looked for ", library.path_, " (", kPathVariable, " names another): ", dlerror()));
  }
  DW_RETURN_IF_ERROR(FindAll(handle, library.path_, library.functions_));
  const NcclResult result = library.functions_.GetVersion(&library.version_);
  if (result != kNcclSuccess || library.version_ < kVersionMin) {
    return absl::FailedPreconditionError(absl::StrCat("NCCL: ", library.path_, " is version ",
                                                      library.version_, ", want ", kVersionMin,
                                                      " or later"));
  }
  return library;
}

absl::StatusOr<NcclUniqueId> NcclLibrary::MakeUniqueId() const {
  NcclUniqueId id;
  if (const NcclResult result = functions_.GetUniqueId(&id); result != kNcclSuccess) {
    return absl::InternalError(
        absl::StrCat("NCCL: ncclGetUniqueId: ", functions_.GetErrorString(result)));
  }
  return id;
}

}  // namespace deltaworks::trainer
