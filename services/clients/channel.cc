#include "services/clients/channel.h"

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace deltaworks::services {
namespace {
// As the server's (services/base/server.h): 4 MiB of payload and a margin.
constexpr int kMessageBytesMax = (4 << 20) + (64 << 10);
constexpr int kReconnectFirstMs = 100;
constexpr int kReconnectMaxMs = 2'000;
constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
}  // namespace

void Channel::Prepare(grpc::ClientContext& context, absl::Duration timeout) const {
  if (!token.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  if (timeout != absl::InfiniteDuration()) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
}

Channel MakeChannel(const std::string& address, const std::string& token) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectFirstMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kReconnectFirstMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Retrying is CallWithRetry's, which knows the request_id.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Each channel its own connection: two in one process do not slow each other down.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  Channel channel;
  channel.grpc = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  channel.token = token;
  return channel;
}

}  // namespace deltaworks::services
