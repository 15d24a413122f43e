// Scratch: device memory that one operation at a time cuts into pieces. It grows by itself and
// keeps what it has. Thread-compatible. `gpu` must outlive it.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_SCRATCH_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_SCRATCH_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "glog/logging.h"
#include "trainer/backend/cuda/gpu.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer::cuda {

// Hands out pieces of `base`, or only adds up their sizes if it is null.
class Pieces {
 public:
  explicit Pieces(void* base) : base_(static_cast<char*>(base)) {}

  // 256 bytes aligned, not initialised.
  void* Take(int64_t bytes) {
    void* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  // [rows, stride] of elements of `type`.
  Matrix TakeMatrix(DType type, int64_t rows, int64_t stride) {
    return {Take(rows * stride * SizeOf(type)), stride};
  }
  int64_t used() const { return used_; }

 private:
  static constexpr int64_t kAlignment = 256;
  char* const base_;
  int64_t used_ = 0;
};

class Scratch {
 public:
  explicit Scratch(Gpu& gpu) : gpu_(gpu) {}
  ~Scratch() { gpu_.Free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // layout(pieces) takes the pieces of an operation and returns what they are: called twice, once
  // to learn how many bytes there are.
  template <typename Layout>
  auto Lay(const Layout& layout) {
    Pieces sizes(nullptr);
    layout(sizes);
    if (sizes.used() > bytes_) {
      const absl::Status status = Hold(sizes.used());
      CHECK(status.ok()) << status;  // What passes need was reserved before.
    }
    Pieces pieces(data_);
    return layout(pieces);
  }

  // At least so many bytes; 0 gives all back. On error nothing is held.
  absl::Status Reserve(int64_t bytes) {
    return bytes > bytes_ || bytes == 0 ? Hold(bytes) : absl::OkStatus();
  }
  int64_t bytes() const { return bytes_; }

 private:
  absl::Status Hold(int64_t bytes) {
    gpu_.Free(data_);
    data_ = nullptr;
    bytes_ = 0;
    if (bytes == 0) return absl::OkStatus();
    DW_ASSIGN_OR_RETURN(data_, gpu_.Allocate(bytes));
    bytes_ = bytes;
    return absl::OkStatus();
  }

  Gpu& gpu_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_SCRATCH_H_
