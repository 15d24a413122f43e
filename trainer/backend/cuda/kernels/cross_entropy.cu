#include "trainer/backend/cuda/kernels/block_sum.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {
namespace {

// One block takes one row.
constexpr int kLossThreads = 1024;

template <typename T>
__global__ void __launch_bounds__(kLossThreads)
    SoftmaxLossKernel(const float* logits, int64_t logits_row, int64_t vocabulary,
                      const int32_t* labels, const float* weights, float* losses, T* gradient,
                      int64_t gradient_row, int64_t columns_filled) {
  float* shared = DynamicShared<float>();
  const int64_t row = blockIdx.x;
  const float* from = logits + row * logits_row;
  float max = -INFINITY;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kLossThreads) max = fmaxf(max, from[i]);
  max = BlockMax(max, shared);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kLossThreads) sum += expf(from[i] - max);
  sum = BlockSum(sum, shared);
  const int64_t label = labels[row];
  if (threadIdx.x == 0) {
    const double log_sum = static_cast<double>(max) + log(static_cast<double>(sum));
    const bool known = label >= 0 && label < vocabulary;
    losses[row] = known ? static_cast<float>(log_sum - static_cast<double>(from[label]))
                        : FloatOf(0x7fc00000u);
  }
  if (gradient == nullptr) return;
  const float weight = weights[row], scale = 1.0f / sum;
  T* to = gradient + row * gradient_row;
  for (int64_t i = threadIdx.x; i < columns_filled; i += kLossThreads) {
    float value = 0;
    if (i < vocabulary) value = weight * (expf(from[i] - max) * scale - (i == label ? 1.0f : 0.0f));
    to[i] = RoundTo<T>(value);
  }
}

}  // namespace

template <typename T>
void SoftmaxLoss(Stream stream, const float* logits, int64_t logits_row, int64_t rows,
                 int64_t vocabulary, const int32_t* labels, const float* weights, float* losses,
                 T* gradient, int64_t gradient_row, int64_t columns_filled) {
  if (rows == 0) return;
  DW_LAUNCH(stream, SoftmaxLossKernel<T>, static_cast<unsigned>(rows), kLossThreads,
            kBlockSumFloats * sizeof(float), logits, logits_row, vocabulary, labels, weights,
            losses, gradient, gradient_row, columns_filled);
}

template void SoftmaxLoss(Stream, const float*, int64_t, int64_t, int64_t, const int32_t*,
                          const float*, float*, float*, int64_t, int64_t);
template void SoftmaxLoss(Stream, const float*, int64_t, int64_t, int64_t, const int32_t*,
                          const float*, float*, Bf16*, int64_t, int64_t);

}  // namespace deltaworks::trainer::cuda
