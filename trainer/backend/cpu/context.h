// What every operation of the cpu backend works with, and how it finds its way in a tensor.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_CONTEXT_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_CONTEXT_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "glog/logging.h"
#include "trainer/backend/cpu/host_memory.h"
#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/backend/cpu/products.h"
#include "trainer/backend/cpu/thread_pool.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

// What an operation takes of CpuContext::shared and of each worker's scratch, at most.
struct ScratchNeed {
  int64_t shared = 0;
  int64_t worker = 0;
};

struct CpuContext {
  CpuContext(DType compute, std::unique_ptr<ThreadPool> threads, const KernelSet& kernel_set,
             std::unique_ptr<Products> matrix_products)
      : compute_type(compute),
        pool(std::move(threads)),
        kernels(kernel_set),
        products(std::move(matrix_products)),
        scratch(pool->threads()) {}

  // An operation begins: scratch of the one before may be reused.
  void Begin() { shared.Reset(); }

  // ParallelFor whose tasks get an empty Workspace of their own.
  void ForTasks(int64_t tasks,
                absl::FunctionRef<void(int64_t task, int worker, Workspace& scratch)> run) {
    pool->ParallelFor(tasks, [&](int64_t task, int worker) {
      scratch[worker].Reset();
      run(task, worker, scratch[worker]);
    });
  }

  // body(begin, end) over blocks of `block` of n: the cut does not depend on the threads.
  void ForBlocks(int64_t n, int64_t block, absl::FunctionRef<void(int64_t, int64_t)> body) {
    pool->ParallelFor(CeilDiv(n, block), [&](int64_t task, int) {
      body(task * block, std::min(n, (task + 1) * block));
    });
  }

  const DType compute_type;
  const std::unique_ptr<ThreadPool> pool;
  const KernelSet& kernels;
  const std::unique_ptr<Products> products;
  Workspace shared;                // Of the operation; all tasks may read it.
  std::vector<Workspace> scratch;  // Of the task: one for each worker.
};

// Element `index` of a tensor's data.
template <typename Pointer>
auto ElementAt(const BasicTensorView<Pointer>& view, int64_t index) {
  using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, char, const char>;
  return static_cast<Byte*>(view.data) + index * SizeOf(view.dtype);
}
// Element (row, column) of a matrix.
template <typename Pointer>
auto ElementAt(const BasicTensorView<Pointer>& view, int64_t row, int64_t column) {
  return ElementAt(view, row * view.dim(1) + column);
}

template <typename Pointer>
void CheckTensor(const BasicTensorView<Pointer>& view, DType dtype,
                 const std::vector<int64_t>& shape, const char* name) {
  CHECK(view.dtype == dtype && view.shape == shape)
      << name << " is " << NameOf(view.dtype) << " " << ShapeText(view.shape) << ", want "
      << NameOf(dtype) << " " << ShapeText(shape);
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_CONTEXT_H_
