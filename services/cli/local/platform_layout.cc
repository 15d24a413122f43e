#include "services/cli/local/platform_layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "services/base/caller.h"
#include "services/base/token_file.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kDefaultTenant[] = "default";

// True if `secret_file` holds a token that `tokens_file` knows as `tenant`'s.
bool IsKnown(const std::string& tokens_file, const std::string& secret_file,
             const std::string& tenant) {
  const absl::StatusOr<std::string> secret = ReadSecretFile(secret_file);
  if (!secret.ok()) return false;
  absl::StatusOr<std::unique_ptr<TokenFile>> tokens = TokenFile::Open(tokens_file);
  if (!tokens.ok()) return false;
  const std::optional<Caller> caller = (*tokens)->Find(*secret);
  return caller.has_value() && caller->tenant == tenant;
}

// A token file that is there and cannot be read must not be passed over: AddToken tells why.
absl::Status EnsureToken(const std::string& tokens_file, const std::string& secret_file,
                         const std::string& tenant) {
  if (IsKnown(tokens_file, secret_file, tenant)) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const std::string token, TokenFile::AddToken(tokens_file, tenant));
  return WriteSecretFile(secret_file, token);
}

}  // namespace

absl::Status MakeHome(const PlatformLayout& layout) {
  struct stat info;
  const bool is_new = stat(layout.home.c_str(), &info) != 0;
  DW_RETURN_IF_ERROR(MakeDirectories(layout.home));
  // A folder that somebody made with other rights on purpose keeps them.
  if (is_new && chmod(layout.home.c_str(), 0700) != 0) {
    return ErrnoStatus(errno, layout.home, "chmod");
  }
  for (const char* service : {"store", "registry", "scheduler"}) {
    DW_RETURN_IF_ERROR(MakeDirectories(layout.DataFolder(service)));
  }
  DW_RETURN_IF_ERROR(MakeDirectories(layout.CacheFolder()));
  DW_RETURN_IF_ERROR(MakeDirectories(layout.LogFolder()));
  return MakeDirectories(layout.RunFolder());
}

absl::Status MakeTokens(const PlatformLayout& layout) {
  DW_RETURN_IF_ERROR(
      EnsureToken(layout.TokensFile(), layout.PlatformTokenFile(), std::string(kAllTenants)));
  return EnsureToken(layout.TokensFile(), layout.DefaultTokenFile(), kDefaultTenant);
}

absl::Status WriteClientFile(const PlatformLayout& layout,
                             const std::map<std::string, std::string>& addresses) {
  Json file = Json::object();
  for (const char* service : {"scheduler", "store", "registry", "inference"}) {
    const auto found = addresses.find(service);
    if (found != addresses.end()) file[service] = found->second;
  }
  file["token_file"] = layout.DefaultTokenFile();
  file["operator_token_file"] = layout.PlatformTokenFile();
  file["tokens_file"] = layout.TokensFile();
  return WriteFileAtomically(layout.ClientFile(), JsonText(file, 2) + "\n");
}

void RemoveClientFile(const PlatformLayout& layout) { unlink(layout.ClientFile().c_str()); }

}  // namespace deltaworks::services
