// Authenticator: the one place where callers show who they are.
//
// A call carries "authorization: Bearer TOKEN". The processor that Server puts before every call
// refuses one without a valid token with UNAUTHENTICATED, before any handler sees it; only health
// and reflection are free. A handler then asks CallerOf() which tenant it serves, and compares that
// with the names in the request (caller.h).
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_AUTHENTICATOR_H_
#define DELTAWORKS_SERVICES_BASE_AUTHENTICATOR_H_

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/base/caller.h"

namespace grpc {
class AuthMetadataProcessor;
class ServerContextBase;
}  // namespace grpc

namespace prometheus {
class Counter;
}

namespace deltaworks::services {

class Metrics;
class TokenFile;

class Authenticator {
 public:
  // `tokens` may be null: then only health and reflection are answered. Both must outlive this.
  Authenticator(TokenFile* tokens, Metrics& metrics);

  // Whose call this is. Unauthenticated if its token was removed meanwhile.
  absl::StatusOr<Caller> CallerOf(const grpc::ServerContextBase& context) const;

  // By the value of the header; empty if there is none.
  absl::StatusOr<Caller> Authenticate(absl::string_view authorization) const;

  // For the server's credentials. Keeps a reference to this. Once `*stopping` is true every call
  // but health and reflection is refused with UNAVAILABLE.
  std::shared_ptr<grpc::AuthMetadataProcessor> MakeProcessor(
      std::shared_ptr<const std::atomic<bool>> stopping) const;

 private:
  TokenFile* const tokens_;
  prometheus::Counter& refused_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_AUTHENTICATOR_H_
