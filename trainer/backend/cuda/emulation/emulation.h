// CUDA on the CPU, for tests: kernels/device_code.h includes this file in place of CUDA's headers,
// and the kernel sources compile and run as they are.
//
// A launch runs its blocks one after the other on the calling OS thread, and the threads of a block
// as fibers. A fiber gives way only where it meets others: at __syncthreads(), at an operation of
// its warp, and at its end. Each meeting is reached in one fixed order, so a launch gives the same
// bytes each time, and what depends on an order that CUDA leaves open shows by running in others:
// see SetThreadOrder. The program ends (LOG(FATAL), naming kernel, block and thread) when a kernel
//   - diverges: threads of a block, or lanes of a warp, end or wait at different kinds of meeting.
//     As everybody's next meeting is compared with the first one's, no deadlock remains;
//   - gives a warp operation another mask than all lanes, or a tile operation fewer than 32 lanes;
//   - gives a tile or a copy an address that is not 16 bytes aligned, or shared memory that isn't;
//   - ends with copies that were never waited for.
// Overruns, also of shared memory, are for ASan; unaligned float4s are for UBSan.
//
// Not here, so that a kernel that uses it does not compile: __shared__, atomics, fast-math
// intrinsics, warp operations of other widths than 32. `#pragma unroll` needs the compiler option
// -Wno-unknown-pragmas.
//
// Any number of OS threads may launch at the same time; what is settable is set for the calling OS
// thread alone, but AllowShared, as in CUDA, for all. A kernel must not launch, nor throw.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_EMULATION_EMULATION_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_EMULATION_EMULATION_H_

#include <math.h>  // expf and its like at global scope, where CUDA has them.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "trainer/backend/cuda/kernels/types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

// Index and vector types, aligned as CUDA has them.
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

// Of the running thread; for kernels to read only.
inline constinit thread_local uint3 threadIdx = {};
inline constinit thread_local uint3 blockIdx = {};
inline constinit thread_local dim3 blockDim;
inline constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __umulhi(unsigned x, unsigned y) { return (uint64_t{x} * y) >> 32; }
template <typename T>
T __ldg(const T* from) {
  return *from;
}

// Overloads rather than a template: as with CUDA's, an int and a 64-bit int do not mix.
#define DW_MIN_MAX_(T)                             \
  inline T min(T x, T y) { return y < x ? y : x; } \
  inline T max(T x, T y) { return x < y ? y : x; }
DW_MIN_MAX_(int)
DW_MIN_MAX_(unsigned)
DW_MIN_MAX_(long)
DW_MIN_MAX_(unsigned long)
DW_MIN_MAX_(long long)
DW_MIN_MAX_(unsigned long long)
#undef DW_MIN_MAX_

namespace deltaworks::trainer::cuda {

// While it lives, floats round to nearest and denormals are kept, as on a card, whatever the
// calling OS thread has chosen for itself. Every launch has one.
class DefaultFloatMode {
 public:
  DefaultFloatMode() : callers_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1f80); }
  ~DefaultFloatMode() { __builtin_ia32_ldmxcsr(callers_); }
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;

 private:
  const unsigned callers_;
};

// The order in which the threads of a block run between two __syncthreads(), and the blocks of a
// grid. The lanes of a warp stay neighbours: a warp runs until it reaches __syncthreads() or ends.
enum class ThreadOrder {
  kForward,   // As they are numbered.
  kBackward,  // From the last to the first.
  kShuffled,  // Blocks, warps, and lanes within each warp at random, the same in each launch.
};

// For the later launches of the calling OS thread; kForward until then.
void SetThreadOrder(ThreadOrder order);

// What CUDA would have refused since the last call: the first such launch of the calling OS thread,
// with the kernel's name, or AllowShared. Empty if nothing was.
std::string TakeLaunchError();

namespace emulation {

inline constexpr int kLanes = 32;

// All that happens to a kernel before its code runs. `shared_bytes` is of dynamic shared memory.
struct LaunchShape {
  const char* name;
  const void* kernel;
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
};

// Calls `thread` once for each thread of the grid, or leaves a launch error.
void RunGrid(const LaunchShape& shape, absl::FunctionRef<void()> thread);

// KernelLaunch::run of a kernel with such parameters, which are copied for each thread. Blocks
// until the grid has run.
template <typename... Parameters>
void Run(const KernelLaunch& launch) {
  const auto kernel = reinterpret_cast<void (*)(Parameters...)>(const_cast<void*>(launch.kernel));
  const auto call = [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
    kernel(*static_cast<const Parameters*>(launch.arguments[kIndex])...);
  };
  const auto& [gx, gy, gz] = launch.grid;
  const auto& [bx, by, bz] = launch.block;
  RunGrid({launch.name, launch.kernel, dim3(gx, gy, gz), dim3(bx, by, bz), launch.shared_bytes},
          [&] { call(std::index_sequence_for<Parameters...>()); });
}

void AllowSharedOf(const void* kernel, int bytes);

// Memory of exactly the size asked for, 128 bytes aligned, filled with 0xff before each block;
// nullptr if the launch asked for none.
void* SharedMemory();

enum class ShuffleFrom { kLane, kXor, kDown, kUp };

// The `value` of the lane that `from` and `argument` name, or the caller's own if there cannot be
// such a lane; all bits set if the last warp of the block is too small to have it.
uint64_t Shuffle(ShuffleFrom from, unsigned mask, uint64_t value, int64_t argument);

template <typename T>
concept Shuffled = std::is_arithmetic_v<T> &&(sizeof(T) == 4 || sizeof(T) == 8);

template <Shuffled T>
T ShuffleAny(ShuffleFrom from, unsigned mask, T value, int64_t argument) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return std::bit_cast<T>(
      static_cast<Bits>(Shuffle(from, mask, std::bit_cast<Bits>(value), argument)));
}

void WaitForCopies(int groups);

}  // namespace emulation

template <typename Kernel>
void AllowShared(Kernel* kernel, int bytes) {
  emulation::AllowSharedOf(reinterpret_cast<const void*>(kernel), bytes);
}

template <typename T>
T* DynamicShared() {
  return static_cast<T*>(emulation::SharedMemory());
}

inline uint32_t BitsOf(float x) { return std::bit_cast<uint32_t>(x); }
inline float FloatOf(uint32_t bits) { return std::bit_cast<float>(bits); }

// These are explained in device_code.h. Here PackBf16's NaN is 0x7fff, as the hardware's;
// MmaBf16 adds the 16 products in f32 from the first to the last, then the sum to d. The hardware
// adds in another order and rounds otherwise: results are near its, not equal.
uint32_t PackBf16(float low, float high);
uint32_t PackE4m3(float low, float high);
void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void LoadTiles(uint32_t (&out)[4], const void* row);
void LoadTilesTransposed(uint32_t (&out)[4], const void* row);

// As late as CUDA allows: the target is 0xff until WaitForCopies, which then reads the source. So
// whoever does not wait, or overwrites the source, gets other bytes.
void CopyAsync16(void* shared, const void* from, bool valid);
void CommitCopies();
template <int kGroups>
void WaitForCopies() {
  emulation::WaitForCopies(kGroups);
}

}  // namespace deltaworks::trainer::cuda

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
int __any_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
unsigned __ballot_sync(unsigned mask, int predicate);

template <deltaworks::trainer::cuda::emulation::Shuffled T>
T __shfl_sync(unsigned mask, T value, int lane) {
  using deltaworks::trainer::cuda::emulation::ShuffleFrom;
  return deltaworks::trainer::cuda::emulation::ShuffleAny(ShuffleFrom::kLane, mask, value, lane);
}
template <deltaworks::trainer::cuda::emulation::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  using deltaworks::trainer::cuda::emulation::ShuffleFrom;
  return deltaworks::trainer::cuda::emulation::ShuffleAny(ShuffleFrom::kXor, mask, value,
                                                          lane_mask);
}
template <deltaworks::trainer::cuda::emulation::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  using deltaworks::trainer::cuda::emulation::ShuffleFrom;
  return deltaworks::trainer::cuda::emulation::ShuffleAny(ShuffleFrom::kDown, mask, value, delta);
}
template <deltaworks::trainer::cuda::emulation::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  using deltaworks::trainer::cuda::emulation::ShuffleFrom;
  return deltaworks::trainer::cuda::emulation::ShuffleAny(ShuffleFrom::kUp, mask, value, delta);
}

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_EMULATION_EMULATION_H_
