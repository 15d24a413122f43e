// RpcByName: calls any rpc of the contract, unary or streaming, by its descriptor; so that a test
// can walk over all of them. Thread-safe.

#ifndef DELTAWORKS_TESTS_E2E_RPC_BY_NAME_H_
#define DELTAWORKS_TESTS_E2E_RPC_BY_NAME_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "services/clients/channel.h"

namespace deltaworks::e2e {

// The five services of the contract.
std::vector<const google::protobuf::ServiceDescriptor*> AllServices();

// An empty request of this rpc.
std::unique_ptr<google::protobuf::Message> NewRequest(
    const google::protobuf::MethodDescriptor& method);

struct RpcAnswer {
  absl::Status status;
  std::vector<std::string> messages;  // As text.

  std::string Text() const;  // Status and messages.
};

// Sends one request and reads what comes, at most `messages_max` messages; then the call is
// cancelled and its status is OK. DeadlineExceeded after 20 s.
RpcAnswer CallRpc(const services::Channel& channel,
                  const google::protobuf::MethodDescriptor& method,
                  const google::protobuf::Message& request, int messages_max = 8);

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_RPC_BY_NAME_H_
