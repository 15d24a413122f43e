// Which rank adds which elements of an ordered sum: fixed by count and size alone.

#ifndef DELTAWORKS_TRAINER_COMM_SHARD_H_
#define DELTAWORKS_TRAINER_COMM_SHARD_H_

#include <algorithm>
#include <cstdint>

namespace deltaworks::trainer {

// Elements [begin, end).
struct Shard {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t count() const { return end - begin; }
};

// The shard that `owner` adds. Shards are consecutive, cover [0, count), start at multiples of 16
// elements (a cache line), and none is longer than the first; the last ones may be empty.
inline Shard ShardOf(int64_t count, int size, int owner) {
  constexpr int64_t kAlignment = 16;
  const int64_t even = (count + size - 1) / size;
  const int64_t length = (even + kAlignment - 1) / kAlignment * kAlignment;
  const int64_t begin = std::min(count, owner * length);
  return {begin, std::min(count, begin + length)};
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_SHARD_H_
