// PlainTraffic: for each peer, one run of bytes to send and one to receive.

#ifndef DELTAWORKS_TRAINER_COMM_PLAIN_TRAFFIC_H_
#define DELTAWORKS_TRAINER_COMM_PLAIN_TRAFFIC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "trainer/comm/tcp_pump.h"

namespace deltaworks::trainer {

class PlainTraffic final : public Traffic {
 public:
  explicit PlainTraffic(int size) : flows_(size) {}

  // What is added must outlive the object.
  void AddSend(int peer, const void* data, int64_t bytes) {
    flows_[peer].send = {static_cast<const char*>(data), static_cast<size_t>(bytes)};
    flows_[peer].to_send = bytes;
  }
  void AddReceive(int peer, void* data, int64_t bytes) {
    flows_[peer].receive = {static_cast<char*>(data), static_cast<size_t>(bytes)};
    flows_[peer].to_receive = bytes;
  }

  absl::Span<const char> ToSend(int peer) override { return flows_[peer].send; }
  void Sent(int peer, int64_t bytes) override { flows_[peer].send.remove_prefix(bytes); }
  absl::Span<char> ToReceive(int peer) override { return flows_[peer].receive; }
  void Received(int peer, int64_t bytes) override { flows_[peer].receive.remove_prefix(bytes); }
  bool Done(int peer) const override {
    return flows_[peer].send.empty() && flows_[peer].receive.empty();
  }
  std::string State(int peer) const override {
    const Flow& flow = flows_[peer];
    return absl::StrCat("received ", flow.to_receive - flow.receive.size(), ", want ",
                        flow.to_receive, " bytes, and sent ", flow.to_send - flow.send.size(),
                        ", want ", flow.to_send);
  }

 private:
  struct Flow {
    absl::Span<const char> send;
    absl::Span<char> receive;
    int64_t to_send = 0;
    int64_t to_receive = 0;
  };
  std::vector<Flow> flows_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_PLAIN_TRAFFIC_H_
