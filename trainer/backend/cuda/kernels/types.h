// What host code and kernels share of CUDA: nothing of its headers.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_TYPES_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_TYPES_H_

#include <cstdint>
#include <type_traits>

namespace deltaworks::trainer::cuda {

// One launch of a kernel: all that decides what it does. Valid for the call that has it.
struct KernelLaunch {
  const char* name;
  const void* kernel;  // What cudaLaunchKernel takes.
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  // Emulated kernels run by this; on a card nullptr.
  void (*run)(const KernelLaunch& launch);
  // The kernel's parameters, each by value: where it is, at most 8 bytes aligned, and its size.
  int32_t argument_count;
  void* const* arguments;
  const uint32_t* argument_bytes;
};

// What kernels are launched on, in order: a stream of the card's, or who collects them for later.
class Launcher {
 public:
  virtual ~Launcher() = default;
  // A failure shows where the launcher says so.
  virtual void Launch(const KernelLaunch& launch) = 0;
};

// nullptr: an emulated kernel runs at once.
using Stream = Launcher*;

// Whether two values of a kernel's parameter that are equal have the same bytes: launches are
// compared by them. A struct with floats says so itself, if its members fill it.
template <typename T>
inline constexpr bool kEqualInBytes =
    std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>;

// The upper half of an f32, as trainer/tensor.h's BFloat16, bit for bit.
struct alignas(2) Bf16 {
  uint16_t bits;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_TYPES_H_
