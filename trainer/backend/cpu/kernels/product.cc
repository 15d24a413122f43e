// A product of our own, for shapes in which oneDNN's rows depend on their place in the tile.
// Compiled once for each instruction set.
//
// Panels of b are copied to a block that the caches hold, with 64 columns side by side; then every
// element of out is one chain of multiply-adds in the order of k.

#include "trainer/backend/cpu/kernels/attention.h"
#include "trainer/backend/cpu/kernels/block_product.h"

namespace deltaworks::trainer::DW_ISA {
namespace {

constexpr int64_t kColumns = 64;
constexpr int64_t kDepth = 512;  // Of k at a time: 128 KiB of b.

// to[p][j] = b[p * row + j] for p < depth, j < columns; zero for the other j.
void CopyPanel(const float* b, int64_t row, int64_t depth, int64_t columns, float* to) {
  for (int64_t p = 0; p < depth; ++p) {
    for (int64_t j = 0; j < kColumns; j += kLanes) Store(to + p * kColumns + j, Zero());
    ForChunks(columns, [&](int64_t j, int64_t lanes) {
      Store(to + p * kColumns + j, LoadChunk(b + p * row + j, lanes));
    });
  }
}

// to[p][j] = b[j * column + p].
void TransposePanel(const float* b, int64_t column, int64_t depth, int64_t columns, float* to) {
  int64_t j = 0;
  for (; j + 4 <= columns; j += 4) {
    int64_t p = 0;
    for (; p + 4 <= depth; p += 4) {
      __m128 rows[4];
      for (int i = 0; i < 4; ++i) rows[i] = _mm_loadu_ps(b + (j + i) * column + p);
      _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
      for (int i = 0; i < 4; ++i) _mm_storeu_ps(to + (p + i) * kColumns + j, rows[i]);
    }
    for (; p < depth; ++p) {
      for (int i = 0; i < 4; ++i) to[p * kColumns + j + i] = b[(j + i) * column + p];
    }
  }
  for (; j < kColumns; ++j) {
    for (int64_t p = 0; p < depth; ++p) {
      to[p * kColumns + j] = j < columns ? b[j * column + p] : 0;
    }
  }
}

void Product(const KernelProduct& q, float* scratch) {
  float* const panel = scratch;
  float* const sums = scratch + kDepth * kColumns;
  for (int64_t column = 0; column < q.n; column += kColumns) {
    const int64_t columns = q.n - column < kColumns ? q.n - column : kColumns;
    for (int64_t p = 0; p < q.k; p += kDepth) {
      const int64_t depth = q.k - p < kDepth ? q.k - p : kDepth;
      if (q.b_column == 1) {
        CopyPanel(q.b + p * q.b_row + column, q.b_row, depth, columns, panel);
      } else {
        TransposePanel(q.b + p + column * q.b_column, q.b_column, depth, columns, panel);
      }
      Multiply({.m = q.m,
                .n = kColumns,
                .k = depth,
                .a = q.a + p * q.a_column,
                .a_row = q.a_row,
                .a_column = q.a_column,
                .b = panel,
                .b_row = kColumns,
                .c = sums,
                .c_row = kColumns,
                .accumulate = p > 0});
    }
    for (int64_t i = 0; i < q.m; ++i) {
      float* const out = q.out + i * q.out_row + column;
      ForChunks(columns, [&](int64_t j, int64_t lanes) {
        const F32 sum = Load(sums + i * kColumns + j);
        StoreChunk(out + j, q.accumulate ? LoadChunk(out + j, lanes) + sum : sum, lanes);
      });
    }
  }
}

}  // namespace

void AddProduct(KernelSet& set) { set.product = Product; }

}  // namespace deltaworks::trainer::DW_ISA
