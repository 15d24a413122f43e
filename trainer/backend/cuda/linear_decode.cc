#include "trainer/backend/cuda/linear_decode.h"

#include <algorithm>
#include <type_traits>

#include "trainer/backend/cuda/adapter_plan.h"
#include "trainer/backend/cuda/adapter_table.h"
#include "trainer/backend/cuda/kernels/adapters.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/matrices.h"

namespace deltaworks::trainer::cuda {
namespace {

struct Sizes {
  int64_t rows = 0;
  int64_t k = 0;  // Filled.
  int64_t n = 0;  // Of the widest linear, filled.
  int64_t table_bytes = 0;
  bool copied = false;  // x's rows do not begin at 16 bytes.
  bool fp8 = false;
};

struct DecodePieces {
  void* table;
  Matrix input;     // [rows, k], if x is copied.
  Fp8Matrix codes;  // [rows, k], of x.
  Matrix base;      // [rows, n] f32: x W^T.
};

DecodePieces Take(DType type, const Sizes& sizes, Pieces& pieces) {
  const int64_t coded = sizes.fp8 ? sizes.rows : 0;
  return {.table = pieces.Take(sizes.table_bytes),
          .input = pieces.TakeMatrix(type, sizes.copied && !sizes.fp8 ? sizes.rows : 0, sizes.k),
          .codes = {.codes = pieces.TakeMatrix(DType::kF8E4M3, coded, sizes.k),
                    .scales = static_cast<float*>(pieces.Take(coded * sizeof(float)))},
          .base = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.n)};
}

template <typename T>
void Decode(const Context& context, Linears group, const AdapterPart& part,
            const ConstTensorView& x, const TensorView& hidden, absl::Span<const TensorView> y) {
  Gpu& gpu = context.gpu;
  const int64_t rows = x.dim(0), k = x.dim(1);
  Sizes sizes = {.rows = rows, .k = Filled(k), .table_bytes = TableBytes(part)};
  sizes.copied = !IsProductOperand<T>(MatrixOf(x), k);
  sizes.fp8 = PackedOf(*group[0]).fp8();
  for (const FrozenLinear* linear : group) sizes.n = std::max(sizes.n, Filled(linear->n()));
  const DecodePieces pieces =
      context.scratch.Lay([&](Pieces& taken) { return Take(context.type, sizes, taken); });
  const AdapterTable table = Upload(gpu, part, pieces.table).table;

  const Matrix rows_of_x = MatrixOf(x);
  const T* x_data = static_cast<const T*>(x.data);
  Product product = {.a = rows_of_x,
                     .b_transposed = true,
                     .out = pieces.base,
                     .rows = rows,
                     .depth = sizes.k,
                     .input = context.type,
                     .output = DType::kF32};
  if (sizes.fp8) {
    if constexpr (std::is_same_v<T, Bf16>) {
      RowsToFp8(gpu.stream(), x_data, k, rows, k, sizes.k,
                static_cast<uint8_t*>(pieces.codes.codes.data), pieces.codes.codes.stride,
                pieces.codes.scales);
    }
    product.a = pieces.codes.codes;
    product.a_scales = pieces.codes.scales;
    product.input = DType::kF8E4M3;
  } else if (sizes.copied) {
    CopyMatrix<T>(gpu.stream(), x_data, k, rows, k, sizes.k, static_cast<T*>(pieces.input.data),
                  pieces.input.stride);
    product.a = pieces.input;
  }
  int64_t hidden_width = 0;
  for (const Slice& slice : part.slices) {
    hidden_width = std::max<int64_t>(hidden_width, slice.hidden_column + slice.rank);
  }
  T* const hidden_data = static_cast<T*>(hidden.data);
  const int64_t hidden_row = hidden_width == 0 ? 0 : hidden.dim(1);
  DecodeHidden<T>(gpu.stream(), table, part.rows, x_data, k, k, hidden_width, hidden_data,
                  hidden_row);
  for (size_t i = 0; i < group.size(); ++i) {
    const PackedLinear& linear = PackedOf(*group[i]);
    product.b = sizes.fp8 ? linear.forward().codes : linear.matrix();
    product.b_scales = linear.forward().scales;
    product.columns = Filled(linear.n());
    gpu.Multiply(product);
    DecodeOutput<T>(gpu.stream(), table, part.rows, static_cast<int>(i),
                    static_cast<const float*>(pieces.base.data), pieces.base.stride, hidden_data,
                    hidden_row, linear.n(), static_cast<T*>(y[i].data), linear.n());
  }
}

}  // namespace

void DecodeLinears(const Context& context, Linears group, absl::Span<const Segment> segments,
                   const ConstTensorView& x, const TensorView& hidden,
                   absl::Span<const TensorView> y) {
  const AdapterPart part = PlanRows(segments, static_cast<int64_t>(group.size()), x.dim(0));
  WithElement(context.type,
              [&](auto element) { Decode<decltype(element)>(context, group, part, x, hidden, y); });
}

int64_t DecodeLinearScratchBytes(DType type, bool fp8, const PassShape& pass) {
  constexpr int64_t kLinears = kGroupLinearsMax;
  Sizes sizes = {.rows = pass.rows,
                 .k = Filled(pass.linear),
                 .n = Filled(pass.linear),
                 .copied = true,
                 .fp8 = fp8};
  const int64_t segments = std::min(pass.segments, pass.rows);
  sizes.table_bytes =
      segments *
          static_cast<int64_t>(sizeof(SegmentRows) + kLinears * (sizeof(Slice) + sizeof(int32_t))) +
      (kLinears + 4) * 16;
  Pieces pieces(nullptr);
  Take(type, sizes, pieces);
  return pieces.used();
}

}  // namespace deltaworks::trainer::cuda
