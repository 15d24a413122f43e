#include "services/base/server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/address.h"
#include "services/base/authenticator.h"
#include "services/base/metrics.h"
#include "services/base/rpc_metrics.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kStreamsPerConnectionMax = 1000;
constexpr int kPingIntervalMinMs = 5'000;
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;

absl::StatusOr<HostPort> CheckLoopback(const std::string& address) {
  DW_RETURN_IF_ERROR(CheckListenAddress("address", address));
  DW_ASSIGN_OR_RETURN(HostPort parsed, ParseHostPort("address", address));
  if (!IsLoopback(parsed.host)) {
    return absl::InvalidArgumentError(
        absl::StrCat("address is ", address,
                     ", want a loopback address (127.0.0.1:PORT): connections are not encrypted"));
  }
  return parsed;
}

// Plugins of the process, registered before the first builder is made.
void RegisterPluginsOnce() {
  static const bool done = [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Never undone: gRPC's own end waits up to 10 s for sockets that are still closing.
    grpc_init();
    return true;
  }();
  static_cast<void>(done);
}

void SetLimits(const Server::Options& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.message_bytes_max));
  builder.SetMaxSendMessageSize(static_cast<int>(options.message_bytes_max));
  grpc::ResourceQuota quota("deltaworks");
  quota.SetMaxThreads(options.threads_max);
  quota.Resize(static_cast<size_t>(options.memory_bytes_max));
  builder.SetResourceQuota(quota);
  // Two servers on one port would each get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnectionMax);
  // A client that vanished is noticed within a minute; one that pings too often is sent away.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kPingIntervalMinMs);
}

}  // namespace

Server::Server()
    : stopping_(std::make_shared<std::atomic<bool>>(false)),
      calls_(std::make_unique<CallCount>()) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Options& options,
                                                      const Authenticator& authenticator,
                                                      Metrics& metrics, const Clock& clock,
                                                      const std::vector<grpc::Service*>& services) {
  DW_ASSIGN_OR_RETURN(HostPort address, CheckLoopback(options.address));
  RegisterPluginsOnce();
  std::unique_ptr<Server> server(new Server);
  grpc::ServerBuilder builder;
  SetLimits(options, builder);
  // "Local" credentials send what insecure ones send, and let a processor see every call.
  auto credentials = grpc::experimental::LocalServerCredentials(LOCAL_TCP);
  credentials->SetAuthMetadataProcessor(authenticator.MakeProcessor(server->stopping_));
  builder.AddListeningPort(FormatHostPort(address), credentials, &server->port_);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(MakeRpcMetrics(metrics, clock, *server->calls_));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || server->port_ == 0) {
    return ListenError("address", options.address);
  }
  address.port = server->port_;
  server->address_ = FormatHostPort(address);
  return server;
}

Server::~Server() { Stop(absl::ZeroDuration()); }

void Server::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(serving);
}

void Server::Stop(absl::Duration deadline) {
  if (server_ == nullptr) return;  // Never started.
  SetServing(false);
  *stopping_ = true;
  calls_->WaitForNone(deadline);
  // gRPC's own graceful end also waits for idle clients to hang up, which look every 5 s.
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

}  // namespace deltaworks::services
