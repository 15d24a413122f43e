#include "trainer/backend/cuda/kernels/block_sum.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {
namespace {

// One block takes one row.
constexpr int kLossThreads = 1024;
constexpr int kArgMaxThreads = 1024;

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

// Every thread the first of the largest of its own columns, then by pairs.
__global__ void __launch_bounds__(kArgMaxThreads)
    ArgMaxKernel(const float* x, int64_t x_row, int64_t columns, int32_t* places) {
  float* largest = DynamicShared<float>();
  int32_t* found = reinterpret_cast<int32_t*>(largest + kArgMaxThreads);
  const float* from = x + blockIdx.x * x_row;
  const int self = threadIdx.x;
  float best = 0;
  int32_t place = -1;
  for (int64_t i = self; i < columns; i += kArgMaxThreads) {
    const float value = from[i];
    if (value > best || (place < 0 && value == value)) {
      best = value;
      place = static_cast<int32_t>(i);
    }
  }
  largest[self] = best;
  found[self] = place;
  for (int half = kArgMaxThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (self >= half) continue;
    const float other = largest[self + half];
    const int32_t other_place = found[self + half];
    const bool first = other == largest[self] && other_place < found[self];
    if (other_place >= 0 && (found[self] < 0 || other > largest[self] || first)) {
      largest[self] = other;
      found[self] = other_place;
    }
  }
  if (self == 0) places[blockIdx.x] = max(found[0], 0);
}

}  // namespace

void ArgMax(Stream stream, const float* x, int64_t x_row, int64_t rows, int64_t columns,
            int32_t* places) {
  if (rows == 0) return;
  DW_LAUNCH(stream, ArgMaxKernel, static_cast<unsigned>(rows), kArgMaxThreads,
            kArgMaxThreads * (sizeof(float) + sizeof(int32_t)), x, x_row, columns, places);
}

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
