#include "trainer/comm/sum_traffic.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kWindowChunksMax = 16;
constexpr int64_t kAllWindowsFloats = 16 << 20;
constexpr int64_t kBlockFloats = 1024;
constexpr int64_t kFloat = sizeof(float);

int64_t FloatsOfOneWindow(int64_t count, int size, int rank) {
  constexpr int64_t kChunk = SumTraffic::kChunkFloats;
  const int64_t needed = (ShardOf(count, size, rank).count() + kChunk - 1) / kChunk;
  const int64_t room = std::max<int64_t>(1, kAllWindowsFloats / (size - 1) / kChunk);
  return std::min({needed, room, kWindowChunksMax}) * kChunk;
}

// The trip count is a constant, so that the compiler makes vectors of it.
void AddBlock(const float* from, float* to) {
  for (int64_t i = 0; i < kBlockFloats; ++i) to[i] += from[i];
}

void Add(const float* from, float* to, int64_t count) {
  if (count == kBlockFloats) return AddBlock(from, to);
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

int64_t SumTraffic::WindowFloats(int64_t count, int size, int rank) {
  return (size - 1) * FloatsOfOneWindow(count, size, rank);
}

SumTraffic::SumTraffic(float* data, int64_t count, int size, int rank, float* windows)
    : data_(data),
      windows_(windows),
      rank_(rank),
      window_floats_(FloatsOfOneWindow(count, size, rank)),
      flows_(size) {
  for (int owner = 0; owner < size; ++owner) shards_.push_back(ShardOf(count, size, owner));
}

absl::Span<const char> SumTraffic::ToSend(int peer) {
  const Flow& flow = flows_[peer];
  const int64_t part_bytes = shards_[peer].count() * kFloat;
  if (flow.part_sent < part_bytes) {
    return {bytes_of(shards_[peer]) + flow.part_sent,
            static_cast<size_t>(part_bytes - flow.part_sent)};
  }
  return {bytes_of(shards_[rank_]) + flow.sum_sent,
          static_cast<size_t>(added_ * kFloat - flow.sum_sent)};
}

void SumTraffic::Sent(int peer, int64_t bytes) {
  Flow& flow = flows_[peer];
  const bool part = flow.part_sent < shards_[peer].count() * kFloat;
  (part ? flow.part_sent : flow.sum_sent) += bytes;
}

absl::Span<char> SumTraffic::ToReceive(int peer) {
  const Flow& flow = flows_[peer];
  const int64_t part_left = shards_[rank_].count() * kFloat - flow.part_received;
  if (part_left == 0) {
    return {bytes_of(shards_[peer]) + flow.sum_received,
            static_cast<size_t>(shards_[peer].count() * kFloat - flow.sum_received)};
  }
  const int64_t window_bytes = window_floats_ * kFloat;
  const int64_t place = flow.part_received % window_bytes;
  const int64_t room = window_bytes - (flow.part_received - added_ * kFloat);
  return {reinterpret_cast<char*>(window_of(peer)) + place,
          static_cast<size_t>(std::min({room, window_bytes - place, part_left}))};
}

void SumTraffic::Received(int peer, int64_t bytes) {
  Flow& flow = flows_[peer];
  if (flow.part_received < shards_[rank_].count() * kFloat) {
    flow.part_received += bytes;
    AddWhatIsComplete();
  } else {
    flow.sum_received += bytes;
  }
}

void SumTraffic::AddWhatIsComplete() {
  const int64_t count = shards_[rank_].count();
  int64_t complete = count;
  for (int peer = 0; peer < flows_.size(); ++peer) {
    if (peer != rank_) complete = std::min(complete, flows_[peer].part_received / kFloat);
  }
  while (added_ < count) {
    const int64_t next = std::min(count, added_ + kChunkFloats);
    if (complete < next) return;
    AddChunk(added_, next);
    added_ = next;
  }
}

void SumTraffic::AddChunk(int64_t begin, int64_t end) {
  float* const own = data_ + shards_[rank_].begin;
  float sum[kBlockFloats];
  for (int64_t block = begin; block < end; block += kBlockFloats) {
    const int64_t count = std::min(kBlockFloats, end - block);
    const auto part = [&](int rank) -> const float* {
      return rank == rank_ ? own + block : window_of(rank) + block % window_floats_;
    };
    std::memcpy(sum, part(0), count * kFloat);
    for (int rank = 1; rank < flows_.size(); ++rank) Add(part(rank), sum, count);
    std::memcpy(own + block, sum, count * kFloat);
  }
}

bool SumTraffic::Done(int peer) const {
  const Flow& flow = flows_[peer];
  const int64_t own = shards_[rank_].count() * kFloat;
  const int64_t other = shards_[peer].count() * kFloat;
  return flow.part_sent == other && flow.sum_sent == own && flow.part_received == own &&
         flow.sum_received == other;
}

std::string SumTraffic::State(int peer) const {
  const Flow& flow = flows_[peer];
  const int64_t all = (shards_[rank_].count() + shards_[peer].count()) * kFloat;
  return absl::StrCat("received ", flow.part_received + flow.sum_received, " and sent ",
                      flow.part_sent + flow.sum_sent, ", want ", all, " bytes each");
}

}  // namespace deltaworks::trainer
