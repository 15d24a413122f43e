#include "services/clients/grpc_inference_client.h"

#include "proto/deltaworks/v1/inference_service.grpc.pb.h"
#include "services/clients/grpc_calls.h"

namespace deltaworks::services {
namespace {

using Stub = v1::InferenceService::StubInterface;

constexpr char kService[] = "inference";
// A thousand long examples, or a long text, on a slow device.
constexpr absl::Duration kSlowCallTimeout = absl::Hours(1);

class GrpcInferenceClient final : public InferenceClient {
 public:
  explicit GrpcInferenceClient(const Channel& channel)
      : channel_(channel),
        slow_channel_(channel),
        stub_(v1::InferenceService::NewStub(channel.grpc)) {
    slow_channel_.call_timeout = kSlowCallTimeout;
  }

  absl::Status Generate(const v1::GenerateRequest& request, const Sink& sink) override {
    return ReadStream<v1::GenerateResponse>(
        channel_, kSlowCallTimeout,
        [&](grpc::ClientContext& context) { return stub_->Generate(&context, request); }, sink);
  }
  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) override {
    return CallUnary(slow_channel_, kService, *stub_, &Stub::Score, request);
  }
  absl::StatusOr<v1::ListLoadedModelsResponse> ListLoadedModels(
      const v1::ListLoadedModelsRequest& request) override {
    return CallUnary(channel_, kService, *stub_, &Stub::ListLoadedModels, request);
  }

 private:
  const Channel channel_;
  Channel slow_channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<InferenceClient> MakeGrpcInferenceClient(const Channel& channel) {
  return std::make_unique<GrpcInferenceClient>(channel);
}

}  // namespace deltaworks::services
