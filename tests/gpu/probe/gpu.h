// What every part of the probe needs of a card: memory, time, random data, and comparison of bytes.
//
// A measuring program: whatever fails ends it, with the call and its place. Everything runs on one
// stream, which the caller of Elapsed() must not share. Single-threaded.

#ifndef DELTAWORKS_TESTS_GPU_PROBE_GPU_H_
#define DELTAWORKS_TESTS_GPU_PROBE_GPU_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>

// For calls of CUDA, cuBLASLt and NCCL, whose success is 0 in each.
#define PROBE_CHECK(call)                                                                  \
  do {                                                                                     \
    const int probe_status = static_cast<int>(call);                                       \
    if (probe_status != 0) {                                                               \
      std::fprintf(stderr, "%s:%d: %s: status %d, want 0 (last of CUDA: %s)\n", __FILE__,  \
                   __LINE__, #call, probe_status, cudaGetErrorString(cudaGetLastError())); \
      std::exit(1);                                                                        \
    }                                                                                      \
  } while (false)

namespace deltaworks::gpu_probe {

// Device memory. It is not initialised.
class Buffer {
 public:
  explicit Buffer(int64_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_;
};

// The stream of the probe, made at the first call.
cudaStream_t Stream();

// Independent normal values of the given standard deviation; the same for the same seed.
void FillNormalBf16(void* data, int64_t elements, float deviation, uint64_t seed);
void FillNormalF32(float* data, int64_t elements, float deviation, uint64_t seed);
void FillConstantF32(float* data, int64_t elements, float value);

// Each row divided by scales[row] = its largest magnitude / 448, then rounded to e4m3.
//   values [rows, columns] bf16   codes [rows, columns] e4m3   scales [rows]
void QuantizeRowsE4m3(const void* values, int64_t rows, int64_t columns, void* codes,
                      float* scales);

// How many of the 32-bit words differ. `bytes` is a multiple of 4.
int64_t DifferentWords(const void* a, const void* b, int64_t bytes);

// A digest of all words and their places. `bytes` is a multiple of 4.
uint64_t Digest(const void* data, int64_t bytes);

// Frobenius norm of a - b divided by that of b.
double RelativeDifference(const float* a, const float* b, int64_t elements);

// Microseconds of one run by the card's clock: the median of three batches, after a warm-up. `run`
// is told how often it ran before, so that it can take other weights each time.
double Microseconds(const std::function<void(int)>& run);

// A kernel that does nothing, for the cost of a launch.
void LaunchNothing(cudaStream_t stream);

}  // namespace deltaworks::gpu_probe

#endif  // DELTAWORKS_TESTS_GPU_PROBE_GPU_H_
