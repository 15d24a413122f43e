// HostMemory: zeroed, 64-byte aligned memory of the cpu backend; Workspace: scratch that grows.
//
// Large blocks come straight from the system, which gives zero pages on first touch and, where it
// can, 2 MiB pages: products walk through megabytes with large strides.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_HOST_MEMORY_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_HOST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

class HostMemory final : public DeviceBuffer {
 public:
  // ResourceExhausted if the system refuses. `bytes` may be 0.
  static absl::StatusOr<std::unique_ptr<HostMemory>> Allocate(int64_t bytes);
  ~HostMemory() override;
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  void* data() override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  HostMemory(void* data, int64_t bytes, int64_t mapped_bytes)
      : data_(data), bytes_(bytes), mapped_bytes_(mapped_bytes) {}
  void* const data_;
  const int64_t bytes_;
  const int64_t mapped_bytes_;
};

// Scratch of one operation: blocks that keep their place until Reset() and are reused after it.
// Their contents are whatever was there. Not thread-safe; tasks have one Workspace each.
class Workspace {
 public:
  // 64-byte aligned. Out of memory is fatal: scratch is part of the memory plan.
  void* Bytes(int64_t bytes);
  template <typename T>
  T* Get(int64_t elements) {
    return static_cast<T*>(Bytes(elements * static_cast<int64_t>(sizeof(T))));
  }

  // Rewind(mark) forgets what was given since mark = Mark(), so that a loop finds its scratch in
  // the cache. (The first time, when blocks are still to be joined, it keeps them.)
  struct Place {
    size_t blocks = 0;
    int64_t used_bytes = 0;
  };
  Place Mark() const { return {blocks_.size(), used_bytes_}; }
  void Rewind(const Place& mark) {
    if (mark.blocks == blocks_.size()) used_bytes_ = mark.used_bytes;
  }

  // Forgets all blocks. If the last use needed several, they are joined, so that the same use next
  // time needs one.
  void Reset();

  // Forgets all blocks, like Reset, and holds one of at least so many bytes, or of what it held
  // before if that is more; 0 gives all memory back.
  //   ResourceExhausted  then there is no block at all.
  absl::Status Reserve(int64_t bytes);

  // Of all blocks.
  int64_t bytes() const;

 private:
  std::vector<std::unique_ptr<HostMemory>> blocks_;  // All but the last are full.
  int64_t used_bytes_ = 0;                           // Of the last block.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_HOST_MEMORY_H_
