#include "services/base/authenticator.h"

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/server_context.h>
#include <prometheus/counter.h>

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "services/base/metrics.h"
#include "services/base/status_conversion.h"
#include "services/base/token_file.h"

namespace deltaworks::services {
namespace {

constexpr char kHeader[] = "authorization";

absl::string_view View(const grpc::string_ref& text) { return {text.data(), text.size()}; }

// Rpcs that supervisors and generic clients need before they have a token.
bool IsFree(absl::string_view path) {
  return absl::StartsWith(path, "/grpc.health.v1.Health/") ||
         absl::StartsWith(path, "/grpc.reflection.");
}

class Processor final : public grpc::AuthMetadataProcessor {
 public:
  Processor(const Authenticator& authenticator, std::shared_ptr<const std::atomic<bool>> stopping)
      : authenticator_(authenticator), stopping_(std::move(stopping)) {}

  // A digest and a look-up: not worth a thread.
  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*, OutputMetadata*,
                       OutputMetadata*) override {
    const auto path = metadata.find(":path");
    if (path != metadata.end() && IsFree(View(path->second))) return grpc::Status::OK;
    if (*stopping_) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is stopping; repeat the call");
    }
    const auto header = metadata.find(kHeader);
    return ToGrpcStatus(
        authenticator_
            .Authenticate(header == metadata.end() ? absl::string_view() : View(header->second))
            .status());
  }

 private:
  const Authenticator& authenticator_;
  const std::shared_ptr<const std::atomic<bool>> stopping_;
};

}  // namespace

Authenticator::Authenticator(TokenFile* tokens, Metrics& metrics)
    : tokens_(tokens),
      refused_(metrics.Counter("deltaworks_rpc_unauthenticated_total",
                               "Calls refused for want of a valid token.")) {}

absl::StatusOr<Caller> Authenticator::CallerOf(const grpc::ServerContextBase& context) const {
  const auto& metadata = context.client_metadata();
  const auto header = metadata.find(kHeader);
  return Authenticate(header == metadata.end() ? absl::string_view() : View(header->second));
}

absl::StatusOr<Caller> Authenticator::Authenticate(absl::string_view authorization) const {
  const bool absent = authorization.empty();
  if (absl::ConsumePrefix(&authorization, "Bearer ") && tokens_ != nullptr) {
    std::optional<Caller> caller = tokens_->Find(absl::StripAsciiWhitespace(authorization));
    if (caller.has_value()) return *std::move(caller);
  }
  refused_.Increment();
  return absl::UnauthenticatedError(
      absent ? "authorization is absent, want \"Bearer TOKEN\""
             : "authorization holds no valid token, want \"Bearer TOKEN\" of the token file");
}

std::shared_ptr<grpc::AuthMetadataProcessor> Authenticator::MakeProcessor(
    std::shared_ptr<const std::atomic<bool>> stopping) const {
  return std::make_shared<Processor>(*this, std::move(stopping));
}

}  // namespace deltaworks::services
