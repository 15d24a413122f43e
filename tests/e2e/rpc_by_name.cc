#include "tests/e2e/rpc_by_name.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "proto/deltaworks/v1/operator_service.pb.h"
#include "proto/deltaworks/v1/registry_service.pb.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/status_conversion.h"

namespace deltaworks::e2e {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(20);

grpc::ByteBuffer ToBuffer(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToText(const grpc::ByteBuffer& buffer, const google::protobuf::Descriptor& type) {
  std::vector<grpc::Slice> slices;
  CHECK(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  const std::unique_ptr<google::protobuf::Message> message(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(&type)->New());
  CHECK(message->ParseFromString(bytes)) << type.full_name();
  return message->DebugString();
}

// One operation of the call at a time. False if it came to nothing.
class Steps {
 public:
  void* tag() { return this; }
  bool Done() {
    void* tag = nullptr;
    bool ok = false;
    CHECK(queue_.Next(&tag, &ok));
    return ok;
  }
  grpc::CompletionQueue& queue() { return queue_; }

 private:
  grpc::CompletionQueue queue_;
};

}  // namespace

std::vector<const google::protobuf::ServiceDescriptor*> AllServices() {
  std::vector<const google::protobuf::ServiceDescriptor*> services;
  for (const google::protobuf::Descriptor* message :
       {v1::CreateJobRequest::descriptor(), v1::SyncRequest::descriptor(),
        v1::CreateUploadRequest::descriptor(), v1::CreateVersionRequest::descriptor(),
        v1::GenerateRequest::descriptor(), v1::SetQuotaRequest::descriptor()}) {
    CHECK_EQ(message->file()->service_count(), 1) << message->file()->name();
    services.push_back(message->file()->service(0));
  }
  return services;
}

std::unique_ptr<google::protobuf::Message> NewRequest(
    const google::protobuf::MethodDescriptor& method) {
  return std::unique_ptr<google::protobuf::Message>(
      google::protobuf::MessageFactory::generated_factory()
          ->GetPrototype(method.input_type())
          ->New());
}

std::string RpcAnswer::Text() const {
  std::string text = status.ToString();
  for (const std::string& message : messages) absl::StrAppend(&text, "\n", message);
  return text;
}

RpcAnswer CallRpc(const services::Channel& channel,
                  const google::protobuf::MethodDescriptor& method,
                  const google::protobuf::Message& request, int messages_max) {
  grpc::ClientContext context;
  channel.Prepare(context, kTimeout);
  grpc::GenericStub stub(channel.grpc);
  Steps steps;
  const auto call = stub.PrepareCall(
      &context, absl::StrCat("/", method.service()->full_name(), "/", method.name()),
      &steps.queue());
  call->StartCall(steps.tag());
  steps.Done();
  call->Write(ToBuffer(request), grpc::WriteOptions().set_last_message(), steps.tag());
  steps.Done();
  RpcAnswer answer;
  grpc::ByteBuffer buffer;
  bool cut = false;
  for (call->Read(&buffer, steps.tag()); steps.Done(); call->Read(&buffer, steps.tag())) {
    answer.messages.push_back(ToText(buffer, *method.output_type()));
    cut = static_cast<int>(answer.messages.size()) == messages_max;
    if (cut) context.TryCancel();
    if (cut) break;
  }
  grpc::Status status;
  call->Finish(&status, steps.tag());
  steps.Done();
  answer.status = cut ? absl::OkStatus() : services::FromGrpcStatus(status);
  return answer;
}

}  // namespace deltaworks::e2e
