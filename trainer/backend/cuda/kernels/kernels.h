// The kernels of CudaBackend that are not attention: what each computes is backend.h's operation of
// the same name, or said here. Sums are in one fixed order, so an element's bits depend on the
// numbers that the operation says, not on the size of the grid.
//
// T is float or Bf16, the compute type. Pointers are device memory; sizes may be 0, which launches
// nothing. A matrix whose rows are not adjacent comes with its row stride in elements (`..._row`).
// Launches are asynchronous; a failed one is told by cudaGetLastError().

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_KERNELS_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_KERNELS_H_

#include <cstdint>

#include "trainer/backend/adamw_scalars.h"
#include "trainer/backend/cuda/kernels/types.h"

namespace deltaworks::trainer::cuda {

// ---- Rows and elements (elementwise.cu) ----

// An id outside [0, vocabulary) gives a row of NaN.
template <typename T>
void Embed(Stream stream, const T* table, int64_t table_row, int64_t vocabulary, const int32_t* ids,
           int64_t rows, int64_t width, float* out);
template <typename T>
void AddResidual(Stream stream, const float* x, const T* y, int64_t count, float* out);
template <typename T>
void Round(Stream stream, const float* x, int64_t count, T* y);
// x [rows, heads * 2 * half]; positions in [0, rows of the tables).
template <typename T>
void Rope(Stream stream, T* x, int64_t rows, int64_t heads, int64_t half, const int32_t* positions,
          const float* cosines, const float* sines, bool inverse);
template <typename T>
void SwigluForward(Stream stream, const T* gate, const T* up, int64_t count, T* out);
template <typename T>
void SwigluBackward(Stream stream, const T* gate, const T* up, const T* dout, int64_t count,
                    T* dgate, T* dup);
template <typename T>
void GatherRows(Stream stream, const T* x, const int32_t* rows, int64_t count, int64_t width,
                T* out);
// Only the given rows of `out` are written.
template <typename T>
void ScatterRows(Stream stream, const T* x, const int32_t* rows, int64_t count, int64_t width,
                 T* out);
template <typename T>
void FillValue(Stream stream, T* x, int64_t count, float value);
// Columns from `columns` to `columns_filled` become 0.
template <typename T>
void CopyMatrix(Stream stream, const T* from, int64_t from_row, int64_t rows, int64_t columns,
                int64_t columns_filled, T* to, int64_t to_row);
// to += from.
void AddMatrix(Stream stream, const float* from, int64_t from_row, int64_t rows, int64_t columns,
               float* to, int64_t to_row);

// ---- Numbers of eight bits (fp8.cu) ----

// Each row as trainer/backend/fp8.h has it, x_i ~ scales[row] * codes_i; codes from `columns` to
// `columns_filled`, a multiple of 8, are 0. Rows of codes begin at multiples of 8 bytes.
void RowsToFp8(Stream stream, const Bf16* x, int64_t x_row, int64_t rows, int64_t columns,
               int64_t columns_filled, uint8_t* codes, int64_t codes_row, float* scales);
// to[j, i] = from[i, j].
void Transpose(Stream stream, const Bf16* from, int64_t from_row, int64_t rows, int64_t columns,
               Bf16* to, int64_t to_row);

// ---- Norms (norm.cu) ----

template <typename T>
void RmsNormForward(Stream stream, const float* x, const float* weight, float epsilon, int64_t rows,
                    int64_t width, T* y, float* rstd);
template <typename T>
void RmsNormBackward(Stream stream, const float* x, const float* weight, const float* rstd,
                     const T* dy, int64_t rows, int64_t width, float* dx);

// ---- Output layer (cross_entropy.cu) ----

// losses[i] of logits [rows, vocabulary]; a label outside [0, vocabulary) gives NaN.
// gradient (nullptr: none) [rows, columns_filled], columns_filled >= vocabulary:
//   weights[i] (softmax - [label]), 0 from `vocabulary` on.
template <typename T>
void SoftmaxLoss(Stream stream, const float* logits, int64_t logits_row, int64_t rows,
                 int64_t vocabulary, const int32_t* labels, const float* weights, float* losses,
                 T* gradient, int64_t gradient_row, int64_t columns_filled);

// places[i] = the first of the largest numbers of x[i], of which NaN is none; 0 if there is none.
void ArgMax(Stream stream, const float* x, int64_t x_row, int64_t rows, int64_t columns,
            int32_t* places);

// ---- Optimiser (optimiser.cu) ----

// Partial sums that SumOfSquares needs room for.
int64_t SquarePartials(int64_t count);
// *sum = the sum of the squares in f64: in blocks of fixed size, then of the blocks.
void SumOfSquares(Stream stream, const float* x, int64_t count, double* partials, double* sum);

void AdamW(Stream stream, const AdamWScalars& scalars, const float* gradient, int64_t count,
           float* parameter, float* m, float* v);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_KERNELS_H_
