// Eight neighbouring elements at a time, 16 or 32 bytes: what memory-bound kernels work on. A run
// of elements is read the same way whether or not it is aligned; only the instructions differ.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_OCTETS_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_OCTETS_H_

#include <cstdint>

#include "trainer/backend/cuda/kernels/device_code.h"

namespace deltaworks::trainer::cuda {

constexpr int kOctet = 8;

// Whether all rows of a matrix begin at a multiple of 16 bytes.
template <typename T>
bool IsAligned(const T* data, int64_t row) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && row * sizeof(T) % 16 == 0;
}

// values[i] = from[i] for i < count, else 0.
__device__ __forceinline__ void LoadOctet(const float* from, int64_t count, bool aligned,
                                          float (&values)[kOctet]) {
  if (aligned && count >= kOctet) {
    const float4 low = reinterpret_cast<const float4*>(from)[0];
    const float4 high = reinterpret_cast<const float4*>(from)[1];
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kOctet; ++i) values[i] = i < count ? from[i] : 0.0f;
}
__device__ __forceinline__ void LoadOctet(const Bf16* from, int64_t count, bool aligned,
                                          float (&values)[kOctet]) {
  if (aligned && count >= kOctet) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = FloatOf(pairs[i] << 16);
      values[2 * i + 1] = FloatOf(pairs[i] & 0xffff0000u);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kOctet; ++i) values[i] = i < count ? ToFloat(from[i]) : 0.0f;
}

// to[i] = values[i], rounded, for i < count.
__device__ __forceinline__ void StoreOctet(const float (&values)[kOctet], int64_t count,
                                           bool aligned, float* to) {
  if (aligned && count >= kOctet) {
    reinterpret_cast<float4*>(to)[0] = make_float4(values[0], values[1], values[2], values[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(values[4], values[5], values[6], values[7]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    if (i < count) to[i] = values[i];
  }
}
__device__ __forceinline__ void StoreOctet(const float (&values)[kOctet], int64_t count,
                                           bool aligned, Bf16* to) {
  if (aligned && count >= kOctet) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = static_cast<uint32_t>(RoundTo<Bf16>(values[2 * i]).bits) |
                 static_cast<uint32_t>(RoundTo<Bf16>(values[2 * i + 1]).bits) << 16;
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    if (i < count) to[i] = RoundTo<Bf16>(values[i]);
  }
}

// Threads of a block, and blocks, for `octets` of them in a row.
constexpr int kElementThreads = 256;

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t OctetsOf(int64_t count) { return CeilDiv(count, kOctet); }
inline unsigned ElementBlocks(int64_t count) {
  return static_cast<unsigned>(CeilDiv(OctetsOf(count), kElementThreads));
}
// First element of this thread's octet.
__device__ __forceinline__ int64_t OctetBegin() {
  return (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kOctet;
}

// A matrix is worked on by blocks of one row and a piece of columns: grid (rows, pieces).
constexpr int kRowThreads = 128;
constexpr int kRowPieceColumns = kRowThreads * kOctet;
inline dim3 RowGrid(int64_t rows, int64_t columns) {
  return dim3(static_cast<unsigned>(rows),
              static_cast<unsigned>(CeilDiv(columns, kRowPieceColumns)));
}
__device__ __forceinline__ int64_t RowOctetBegin() {
  return static_cast<int64_t>(blockIdx.y) * kRowPieceColumns +
         static_cast<int64_t>(threadIdx.x) * kOctet;
}

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_OCTETS_H_
