// TokenFile: who may call. A file of mode 0600 with one line for each token:
//
//   # comment
//   sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae default
//   sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 -
//
// The digest is that of the token's text, so the file gives nobody away; the second word is the one
// tenant that the token speaks for. "-" is the platform itself: services calling each other, which
// act for every tenant. A changed file is read again at the next call. While it cannot be read, or
// is wrong, what was read last stays in force and the reason is logged once.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_TOKEN_FILE_H_
#define DELTAWORKS_SERVICES_BASE_TOKEN_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/base/caller.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class TokenFile {
 public:
  // Errors: NotFound; PermissionDenied (others may read it); InvalidArgument (a line; which).
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(const std::string& path);

  // nullopt: no such token.
  std::optional<Caller> Find(absl::string_view token);

  // Makes a token for `tenant`, appends its line to the file (made if it is absent) and returns the
  // token, which is kept nowhere. Durable once returned.
  static absl::StatusOr<std::string> AddToken(const std::string& path, absl::string_view tenant);

 private:
  using Tenants = absl::flat_hash_map<std::string, std::string>;  // By digest of the token.
  // What tells a changed file from an unchanged one.
  struct Stamp {
    int64_t device = 0;
    int64_t inode = 0;
    int64_t size = -1;
    int64_t changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };

  explicit TokenFile(std::string path) : path_(std::move(path)) {}
  static Stamp StampOf(const std::string& path);
  static absl::StatusOr<Tenants> Read(const std::string& path);
  void ReloadIfChanged() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  Mutex mutex_;
  Stamp stamp_ ABSL_GUARDED_BY(mutex_);
  Tenants tenants_ ABSL_GUARDED_BY(mutex_);
};

// The secret in a file of mode 0600 that holds one token: how services get theirs.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path);
// Writes it, readable by the owner only. Replaces what is there.
absl::Status WriteSecretFile(const std::string& path, absl::string_view secret);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_TOKEN_FILE_H_
