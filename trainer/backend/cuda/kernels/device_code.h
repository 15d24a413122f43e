// What kernel sources are written in: CUDA C++ without tensor-memory or warpgroup instructions, so
// that the same source also runs on the CPU, block by block, in tests (emulation/emulation.h).
//
// Rules that make that possible:
//   - kernels are launched through DW_LAUNCH, and nothing else;
//   - shared memory is dynamic (DynamicShared), never a __shared__ variable;
//   - every thread of a block reaches every __syncthreads(), every lane of a warp every operation
//     of the warp: returning early is for whole blocks;
//   - what a warp does together is one of the functions below.
//
// Numbers: sums are f32 in a fixed order; nothing here uses atomics; no fast-math.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_DEVICE_CODE_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_DEVICE_CODE_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "trainer/backend/cuda/kernels/types.h"

#ifdef DW_EMULATED_CUDA
#include "trainer/backend/cuda/emulation/emulation.h"
#else
#include <cuda_runtime.h>
#endif

namespace deltaworks::trainer::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

#ifndef DW_EMULATED_CUDA

// The block's dynamic shared memory, 128 bytes aligned.
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(128) unsigned char dw_dynamic_shared[];
  return reinterpret_cast<T*>(dw_dynamic_shared);
}

template <typename Kernel>
void AllowShared(Kernel* kernel, int bytes) {
  cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                       cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

__device__ __forceinline__ uint32_t BitsOf(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float FloatOf(uint32_t bits) { return __uint_as_float(bits); }

// Rounds `low` and `high` to bf16, nearest even; `low` in the low half. NaN stays NaN, but not
// which.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// Rounds `low` and `high` to e4m3, nearest even, what is too large to 448; `low` in the low byte.
// NaN becomes 0x7f.
__device__ __forceinline__ uint32_t PackE4m3(float low, float high) {
  uint16_t word;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(word) : "f"(high), "f"(low));
  return word;
}

// d += a b for one tile, a [16,16] and b [16,8] bf16, d [16,8] f32, each spread over the warp as
// PTX's mma.m16n8k16 has it: with group = lane / 4 and pair = lane % 4
//   a[0] row group,     columns 2 pair, 2 pair + 1   a[2] the same, 8 columns on
//   a[1] row group + 8, the same columns             a[3] row group + 8, 8 columns on
//   b[0] rows 2 pair, 2 pair + 1, column group       b[1] 8 rows on
//   d[0], d[1] row group, columns 2 pair, 2 pair + 1   d[2], d[3] row group + 8
// Of a pair the first is in the low half.
__device__ __forceinline__ void MmaBf16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 tiles of bf16 from shared memory (PTX's ldmatrix.x4): lanes 8 i .. 8 i + 7 give the
// addresses of the rows of tile i, 16 bytes aligned; out[i] holds, for each lane, the elements
// 2 (lane % 4) and the next of row lane / 4 of tile i.
__device__ __forceinline__ void LoadTiles(uint32_t (&out)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
// The same tiles, each transposed.
__device__ __forceinline__ void LoadTilesTransposed(uint32_t (&out)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// Copies 16 bytes to shared memory without waiting, or zeros if not `valid` (then `from` is not
// read but must still be a pointer into some tensor). Both 16 bytes aligned.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* from, bool valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(from), "r"(bytes)
               : "memory");
}
// Ends a group of copies.
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most kGroups of this thread's groups are under way. Other threads see the data
// after the next __syncthreads().
template <int kGroups>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

#endif  // DW_EMULATED_CUDA

// Of an emulated kernel; on a card none is needed.
template <typename... Parameters>
constexpr auto RunnerOf() {
#ifdef DW_EMULATED_CUDA
  return &emulation::Run<Parameters...>;
#else
  return nullptr;
#endif
}

// `arguments` are converted to the kernel's parameters.
template <typename... Parameters>
void LaunchKernel(Stream stream, const char* name, void (*kernel)(Parameters...), dim3 grid,
                  dim3 block, size_t shared_bytes, std::type_identity_t<Parameters>... arguments) {
  static_assert((kEqualInBytes<Parameters> && ...), "a parameter with bytes that are not its own");
  static_assert(((alignof(Parameters) <= 8) && ...));
  void* const places[] = {&arguments..., nullptr};
  const uint32_t bytes[] = {sizeof(Parameters)..., 0};
  const KernelLaunch launch = {.name = name,
                               .kernel = reinterpret_cast<const void*>(kernel),
                               .grid = {grid.x, grid.y, grid.z},
                               .block = {block.x, block.y, block.z},
                               .shared_bytes = static_cast<uint32_t>(shared_bytes),
                               .run = RunnerOf<Parameters...>(),
                               .argument_count = sizeof...(Parameters),
                               .arguments = places,
                               .argument_bytes = bytes};
  if (stream == nullptr) {
    launch.run(launch);
  } else {
    stream->Launch(launch);
  }
}

// kernel<<<grid, block, shared_bytes>>>(...) on a Stream; `kernel` may be a template-id in
// parentheses. More than 48 KiB of shared memory is asked for by AllowShared first.
#define DW_LAUNCH(stream, kernel, grid, block, shared_bytes, ...)                         \
  ::deltaworks::trainer::cuda::LaunchKernel((stream), #kernel, (kernel), (grid), (block), \
                                            (shared_bytes)__VA_OPT__(, ) __VA_ARGS__)

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(Bf16 x) {
  return FloatOf(static_cast<uint32_t>(x.bits) << 16);
}

// To nearest even; NaN stays the same NaN, quiet.
template <typename T>
__device__ __forceinline__ T RoundTo(float x);
template <>
__device__ __forceinline__ float RoundTo<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ Bf16 RoundTo<Bf16>(float x) {
  const uint32_t word = BitsOf(x);
  if ((word & 0x7fffffffu) > 0x7f800000u) {
    return Bf16{static_cast<uint16_t>((word >> 16) | 0x40)};
  }
  return Bf16{static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1)) >> 16)};
}

// The same sum, or largest, in each lane, of all lanes, added as a tree.
__device__ __forceinline__ float WarpSum(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, offset);
  }
  return x;
}
__device__ __forceinline__ float WarpMax(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  }
  return x;
}

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_DEVICE_CODE_H_
