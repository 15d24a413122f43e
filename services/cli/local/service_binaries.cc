#include "services/cli/local/service_binaries.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

bool IsProgram(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

}  // namespace

absl::StatusOr<std::string> OwnBinary() {
  constexpr char kSelf[] = "/proc/self/exe";
  char path[PATH_MAX];
  const ssize_t size = readlink(kSelf, path, sizeof(path));
  if (size < 0) return ErrnoStatus(errno, kSelf, "readlink");
  return std::string(path, static_cast<size_t>(size));
}

absl::StatusOr<std::string> FindServiceBinary(const std::string& service, const std::string& folder,
                                              const std::string& own_binary) {
  std::vector<std::string> places;
  if (!folder.empty()) {
    places.push_back(absl::StrCat(folder, "/", service));
  } else {
    const std::string beside = own_binary.substr(0, own_binary.rfind('/'));
    const std::string above = beside.substr(0, beside.rfind('/'));
    places.push_back(absl::StrCat(beside, "/", service));
    places.push_back(absl::StrCat(above, "/", service, "/", service));
  }
  for (const std::string& place : places) {
    if (IsProgram(place)) return place;
  }
  return absl::NotFoundError(absl::StrCat("the program ", service, " is not at ",
                                          absl::StrJoin(places, " nor at "),
                                          "; build it, or name its folder with --bin_folder"));
}

}  // namespace deltaworks::services
