// SumTraffic: an ordered sum as a stream between every two ranks.
//
// To each peer a rank sends first its part of the peer's shard, then, as it grows, the sum of its
// own shard; from each peer it receives the same two. Parts are kept in a window for each peer;
// once the next chunk of all peers is there it is added, in rank order, into `data`, and may go
// out.
//
//   rank 1, shard 1   window of rank 0 [c2 c3 c4]   ----\                              to 0, 2, 3
//                     data, own part    ...c2...    ------> c2 = 0 + 1 + 2 + 3 -> data ---------->
//                     window of rank 2 [c2 c3]      ----/
//                     window of rank 3 [c2]         ---/
//
// A window that is full is not read, which holds back its sender and nobody else: parts depend on
// nothing, so the slowest peer's chunk always comes, and no circle of waiting can close. A sum
// received overwrites `data` only where the part was sent long ago, since it was added to it.

#ifndef DELTAWORKS_TRAINER_COMM_SUM_TRAFFIC_H_
#define DELTAWORKS_TRAINER_COMM_SUM_TRAFFIC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "trainer/comm/shard.h"
#include "trainer/comm/tcp_pump.h"

namespace deltaworks::trainer {

class SumTraffic final : public Traffic {
 public:
  static constexpr int64_t kChunkFloats = 16 << 10;

  // Floats of windows that rank `rank` needs for such a sum: 64 MiB at most.
  static int64_t WindowFloats(int64_t count, int size, int rank);

  // `windows` has WindowFloats floats. size >= 2. Pointers must outlive the object.
  SumTraffic(float* data, int64_t count, int size, int rank, float* windows);

  absl::Span<const char> ToSend(int peer) override;
  void Sent(int peer, int64_t bytes) override;
  absl::Span<char> ToReceive(int peer) override;
  void Received(int peer, int64_t bytes) override;
  bool Done(int peer) const override;
  std::string State(int peer) const override;

 private:
  // Bytes that have gone to and come from one peer.
  struct Flow {
    int64_t part_sent = 0;
    int64_t sum_sent = 0;
    int64_t part_received = 0;
    int64_t sum_received = 0;
  };

  char* bytes_of(const Shard& shard) const { return reinterpret_cast<char*>(data_ + shard.begin); }
  float* window_of(int peer) const {
    return windows_ + (peer < rank_ ? peer : peer - 1) * window_floats_;
  }
  void AddWhatIsComplete();
  void AddChunk(int64_t begin, int64_t end);

  float* const data_;
  float* const windows_;
  const int rank_;
  const int64_t window_floats_;  // Of one peer; a multiple of kChunkFloats.
  std::vector<Shard> shards_;
  std::vector<Flow> flows_;
  int64_t added_ = 0;  // Elements of our shard whose sum is final.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_SUM_TRAFFIC_H_
