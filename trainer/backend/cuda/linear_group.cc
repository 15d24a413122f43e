#include "trainer/backend/cuda/linear_group.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "trainer/backend/cuda/adapter_plan.h"
#include "trainer/backend/cuda/adapter_table.h"
#include "trainer/backend/cuda/kernels/adapters.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/matrices.h"

namespace deltaworks::trainer::cuda {
namespace {

// What decides how much scratch a part needs.
struct PartSizes {
  int64_t rows = 0;
  int64_t k = 0;             // Filled.
  int64_t n = 0;             // Of the widest linear, filled.
  int64_t linear_width = 0;  // Of the linear with most columns.
  int64_t group_width = 0;
  int64_t table_bytes = 0;
  bool dropout = false;
  bool whole_rows = true;  // K and every N are multiples of 16 bytes.
  bool fp8 = false;
};

// What a base in fp8 has in place of room in its weights: adapters in matrices of their own, whose
// product with the rows comes first, and rows as codes.
struct Fp8Pieces {
  Fp8Matrix rows;  // [rows, max(n, k)]: x, or dy.
  Matrix own;      // [rows, linear_width]: s, or ds.
  Matrix a;        // [linear_width, k]
  Matrix b;        // [n, linear_width]
};

Fp8Pieces TakeFp8(DType type, const PartSizes& sizes, Pieces& pieces) {
  if (!sizes.fp8) return {};
  return {
      .rows = {.codes = pieces.TakeMatrix(DType::kF8E4M3, sizes.rows, std::max(sizes.n, sizes.k)),
               .scales = static_cast<float*>(pieces.Take(sizes.rows * sizeof(float)))},
      .own = pieces.TakeMatrix(type, sizes.rows, sizes.linear_width),
      .a = pieces.TakeMatrix(type, sizes.linear_width, sizes.k),
      .b = pieces.TakeMatrix(type, sizes.n, sizes.linear_width)};
}

struct ForwardPieces {
  void* table;
  Matrix input;    // [rows, k + linear_width]: [x | s].
  Matrix dropped;  // [rows, k]: x after dropout.
  Matrix stack;    // [group_width, k]: all A.
  Matrix sums;     // [rows, group_width] f32: x A^T.
  Matrix out;      // [rows, n], if y's rows do not begin at 16 bytes.
  Matrix wide;     // A weight with room for more than kAdapterRoom columns.
  Fp8Pieces fp8;
};

// Rows that are copied to stand before an adapter's columns, or to begin at 16 bytes.
int64_t RowsCopied(const PartSizes& sizes) {
  return sizes.fp8 && sizes.whole_rows ? 0 : sizes.rows;
}

Matrix TakeWide(DType type, const PartSizes& sizes, Pieces& pieces) {
  if (sizes.fp8 || sizes.linear_width <= kAdapterRoom) return {};
  return pieces.TakeMatrix(type, sizes.n + sizes.linear_width, sizes.k + sizes.linear_width);
}

ForwardPieces TakeForward(DType type, const PartSizes& sizes, Pieces& pieces) {
  return {.table = pieces.Take(sizes.table_bytes),
          .input = pieces.TakeMatrix(type, RowsCopied(sizes), sizes.k + sizes.linear_width),
          .dropped = pieces.TakeMatrix(type, sizes.dropout ? sizes.rows : 0, sizes.k),
          .stack = pieces.TakeMatrix(type, sizes.group_width, sizes.k),
          .sums = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.group_width),
          .out = pieces.TakeMatrix(type, sizes.whole_rows ? 0 : sizes.rows, sizes.n),
          .wide = TakeWide(type, sizes, pieces),
          .fp8 = TakeFp8(type, sizes, pieces)};
}

struct BackwardPieces {
  void* table;
  Matrix gradient;       // [rows, n + linear_width]: [dy | ds].
  Matrix input;          // [rows, k]: x, after dropout.
  Matrix stack;          // [group_width, k]: all A.
  Matrix sums;           // [rows, linear_width] f32: dy B.
  Matrix placed;         // [rows, group_width]: hidden values in their columns.
  Matrix db;             // [n, linear_width] f32.
  Matrix da;             // [group_width, k] f32.
  Matrix dx;             // [rows, k] f32.
  Matrix dx_of_dropped;  // [rows, k] f32.
  Matrix wide;
  Fp8Pieces fp8;
};

BackwardPieces TakeBackward(DType type, const PartSizes& sizes, Pieces& pieces) {
  const int64_t dropped_rows = sizes.dropout ? sizes.rows : 0;
  return {.table = pieces.Take(sizes.table_bytes),
          .gradient = pieces.TakeMatrix(type, RowsCopied(sizes), sizes.n + sizes.linear_width),
          .input = pieces.TakeMatrix(type, sizes.rows, sizes.k),
          .stack = pieces.TakeMatrix(type, sizes.group_width, sizes.k),
          .sums = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.linear_width),
          .placed = pieces.TakeMatrix(type, sizes.rows, sizes.group_width),
          .db = pieces.TakeMatrix(DType::kF32, sizes.n, sizes.linear_width),
          .da = pieces.TakeMatrix(DType::kF32, sizes.group_width, sizes.k),
          .dx = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.k),
          .dx_of_dropped = pieces.TakeMatrix(DType::kF32, dropped_rows, sizes.k),
          .wide = TakeWide(type, sizes, pieces),
          .fp8 = TakeFp8(type, sizes, pieces)};
}

// One part of one group, with elements of T.
template <typename T>
class PartOperation {
 public:
  PartOperation(const Context& context, Linears group, const AdapterPart& part)
      : context_(context), gpu_(context.gpu), group_(group), part_(part) {
    sizes_.rows = part.rows.rows;
    sizes_.k = Filled(k());
    sizes_.linear_width = part.linear_width_max();
    sizes_.group_width = part.group_width();
    sizes_.table_bytes = TableBytes(part);
    sizes_.dropout = part.dropout;
    sizes_.whole_rows = IsFilled(k());
    sizes_.fp8 = PackedOf(*group[0]).fp8();
    for (const FrozenLinear* linear : group) {
      sizes_.n = std::max(sizes_.n, Filled(linear->n()));
      sizes_.whole_rows = sizes_.whole_rows && IsFilled(linear->n());
    }
  }

  void Forward(const ConstTensorView& x, const TensorView& hidden, absl::Span<const TensorView> y) {
    const ForwardPieces pieces = context_.scratch.Lay(
        [&](Pieces& taken) { return TakeForward(context_.type, sizes_, taken); });
    Begin(pieces.table);
    Matrix input = RowsOf(x);
    if (sizes_.fp8) RowsToCodes(input, k(), sizes_.k, pieces.fp8.rows);
    // An adapter's columns stand behind x's.
    const bool has_room = sizes_.fp8 || sizes_.linear_width == 0;
    const bool is_read = !sizes_.fp8 || sizes_.group_width > 0;
    if (!has_room || (is_read && !IsProductOperand<T>(input, k()))) {
      CopyInput<T>(stream(), table(), part_.rows, Data(input), input.stride, k(), sizes_.k,
                   /*drop=*/false, Data(pieces.input), pieces.input.stride);
      input = pieces.input;
    }
    if (sizes_.group_width > 0) {
      Matrix dropped = input;
      if (part_.dropout) {
        CopyInput<T>(stream(), table(), part_.rows, Data(RowsOf(x)), k(), k(), sizes_.k,
                     /*drop=*/true, Data(pieces.dropped), pieces.dropped.stride);
        dropped = pieces.dropped;
      }
      Stack(pieces.stack);
      Multiply({.a = dropped,
                .b = pieces.stack,
                .b_transposed = true,
                .out = pieces.sums,
                .rows = sizes_.rows,
                .columns = sizes_.group_width,
                .depth = sizes_.k,
                .output = DType::kF32});
      SelectHidden<T>(stream(), table(), part_.rows, /*linear=*/-1, Floats(pieces.sums),
                      pieces.sums.stride, Data(RowsOf(hidden)), hidden.dim(1), Rows::kAll,
                      /*width=*/0, /*to=*/nullptr, /*to_row=*/0);
    }
    for (size_t i = 0; i < group_.size(); ++i) {
      const Matrix out = RowsOf(y[i]);
      const bool direct = IsProductOperand<T>(out, n(i));
      if (sizes_.fp8) {
        ForwardFp8(i, hidden, direct ? out : pieces.out, pieces.fp8);
      } else {
        ForwardLinear(i, input, hidden, direct ? out : pieces.out, pieces);
      }
      if (direct) continue;
      CopyMatrix<T>(stream(), Data(pieces.out), pieces.out.stride, sizes_.rows, n(i), n(i),
                    Data(out), out.stride);
    }
  }

  void Backward(const ConstTensorView& x, const ConstTensorView& hidden,
                absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                const TensorView& dx, absl::Span<const Segment* const> segments) {
    const BackwardPieces pieces = context_.scratch.Lay(
        [&](Pieces& taken) { return TakeBackward(context_.type, sizes_, taken); });
    Begin(pieces.table);
    // One product of 16-byte rows is rounded where it is summed.
    const bool direct = dx.data != nullptr && group_.size() == 1 && !part_.dropout &&
                        IsProductOperand<T>(RowsOf(dx), k());
    for (size_t i = 0; i < group_.size(); ++i) {
      const Matrix gradient = Gradient(i, RowsOf(dy[i]), pieces);
      const int64_t width = part_.linear_width(i);
      const AdapterPlaces places = PlacesOf(i, gradient, pieces);
      if (width > 0) BackwardHidden(i, gradient, places, dhidden, dx.data != nullptr, pieces);
      if (dx.data != nullptr) {
        const Matrix out = direct ? RowsOf(dx) : pieces.dx;
        if (sizes_.fp8) {
          BackwardInputFp8(i, RowsOf(dy[i]), out, direct, pieces.fp8);
        } else {
          BackwardInput(i, gradient, places.weight, out, direct);
        }
      }
      if (width > 0) BackwardB(i, gradient, hidden, segments, pieces);
    }
    if (sizes_.group_width > 0) BackwardA(x, dhidden, segments, pieces);
    if (dx.data == nullptr || direct) return;
    if (part_.dropout) {
      Stack(pieces.stack);
      PlaceAll(dhidden, Rows::kWithDropout, pieces.placed);
      Multiply({.a = pieces.placed,
                .b = pieces.stack,
                .out = pieces.dx_of_dropped,
                .rows = sizes_.rows,
                .columns = sizes_.k,
                .depth = sizes_.group_width,
                .output = DType::kF32});
    }
    FinishInputGradient<T>(stream(), table(), part_.rows, Floats(pieces.dx), pieces.dx.stride,
                           part_.dropout ? Floats(pieces.dx_of_dropped) : nullptr,
                           pieces.dx_of_dropped.stride, k(), Data(RowsOf(dx)), k());
  }

 private:
  int64_t k() const { return group_[0]->k(); }
  int64_t n(size_t i) const { return group_[i]->n(); }
  Stream stream() const { return gpu_.stream(); }
  const AdapterTable& table() const { return uploaded_.table; }
  static T* Data(const Matrix& matrix) { return static_cast<T*>(matrix.data); }
  static float* Floats(const Matrix& matrix) { return static_cast<float*>(matrix.data); }

  // The part's rows of a tensor of the batch.
  Matrix RowsOf(const ConstTensorView& tensor) const {
    return Offset(MatrixOf(tensor), tensor.dtype, part_.rows.begin, 0);
  }
  Matrix At(const Matrix& matrix, int64_t row, int64_t column) const {
    return Offset(matrix, context_.type, row, column);
  }

  void Begin(void* device_table) { uploaded_ = Upload(gpu_, part_, device_table); }

  void Multiply(Product product) {
    product.input = context_.type;
    gpu_.Multiply(product);
  }

  void Stack(const Matrix& stack) {
    PlaceA<T>(stream(), table(), table().group_columns, sizes_.group_width, k(), sizes_.k,
              Data(stack), stack.stride);
  }

  // All hidden values of the part in their group columns.
  void PlaceAll(const ConstTensorView& hidden, Rows rows, const Matrix& to) {
    PlaceHidden<T>(stream(), table(), part_.rows, /*linear=*/-1, rows, Data(RowsOf(hidden)),
                   hidden.dim(1), sizes_.group_width, Data(to), to.stride);
  }
  void PlaceOfLinear(size_t i, const ConstTensorView& hidden, Rows rows, const Matrix& to) {
    PlaceHidden<T>(stream(), table(), part_.rows, static_cast<int>(i), rows, Data(RowsOf(hidden)),
                   hidden.dim(1), part_.linear_width(i), Data(to), to.stride);
  }

  // The weight with room for the part's columns and rows.
  Matrix WeightWithRoom(size_t i, const Matrix& wide) {
    const PackedLinear& linear = PackedOf(*group_[i]);
    if (part_.linear_width(i) <= kAdapterRoom) return linear.matrix();
    CopyMatrix<T>(stream(), Data(linear.matrix()), linear.matrix().stride, Filled(n(i)), sizes_.k,
                  wide.stride, Data(wide), wide.stride);
    return wide;
  }

  void ForwardLinear(size_t i, const Matrix& input, const ConstTensorView& hidden,
                     const Matrix& out, const ForwardPieces& pieces) {
    const int64_t width = part_.linear_width(i);
    const Matrix weight = WeightWithRoom(i, pieces.wide);
    if (width > 0) {
      PlaceB<T>(stream(), table(), uploaded_.linear_columns[i], width, n(i), Filled(n(i)),
                Data(At(weight, 0, sizes_.k)), weight.stride);
      PlaceOfLinear(i, hidden, Rows::kAll, At(input, 0, sizes_.k));
    }
    Multiply({.a = input,
              .b = weight,
              .b_transposed = true,
              .out = out,
              .rows = sizes_.rows,
              .columns = Filled(n(i)),
              .depth = sizes_.k + width,
              .output = context_.type});
  }

  // The adapter's part is rounded on its way.
  void ForwardFp8(size_t i, const ConstTensorView& hidden, const Matrix& out,
                  const Fp8Pieces& pieces) {
    const int64_t width = part_.linear_width(i);
    if (width > 0) {
      PlaceB<T>(stream(), table(), uploaded_.linear_columns[i], width, n(i), Filled(n(i)),
                Data(pieces.b), pieces.b.stride);
      PlaceOfLinear(i, hidden, Rows::kAll, pieces.own);
      Multiply({.a = pieces.own,
                .b = pieces.b,
                .b_transposed = true,
                .out = out,
                .rows = sizes_.rows,
                .columns = Filled(n(i)),
                .depth = width,
                .output = context_.type});
    } else {
      Zero(out, context_.type);
    }
    AddFp8Product(pieces.rows, PackedOf(*group_[i]).forward(), Filled(n(i)), sizes_.k, out,
                  context_.type);
  }

  // out += rows weight^T. Always a sum, onto zeros where no neighbour has an adapter, so that the
  // library is asked for the same product in any company.
  void AddFp8Product(const Fp8Matrix& rows, const Fp8Matrix& weight, int64_t columns, int64_t depth,
                     const Matrix& out, DType output) {
    gpu_.Multiply({.a = rows.codes,
                   .b = weight.codes,
                   .b_transposed = true,
                   .out = out,
                   .rows = sizes_.rows,
                   .columns = columns,
                   .depth = depth,
                   .input = DType::kF8E4M3,
                   .output = output,
                   .accumulate = true,
                   .a_scales = rows.scales,
                   .b_scales = weight.scales});
  }
  void Zero(const Matrix& out, DType type) {
    gpu_.Zero(out.data, sizes_.rows * out.stride * SizeOf(type));
  }
  void RowsToCodes(const Matrix& rows, int64_t columns, int64_t columns_filled,
                   const Fp8Matrix& to) {
    if constexpr (std::is_same_v<T, Bf16>) {
      RowsToFp8(stream(), Data(rows), rows.stride, sizes_.rows, columns, columns_filled,
                static_cast<uint8_t*>(to.codes.data), to.codes.stride, to.scales);
    }
  }

  // dy_i, with room for ds_i behind it, but in fp8.
  Matrix Gradient(size_t i, const Matrix& dy, const BackwardPieces& pieces) {
    const bool has_room = sizes_.fp8 || part_.linear_width(i) == 0;
    const bool is_read = !sizes_.fp8 || part_.linear_width(i) > 0;
    if (has_room && (!is_read || IsProductOperand<T>(dy, n(i)))) return dy;
    CopyMatrix<T>(stream(), Data(dy), dy.stride, sizes_.rows, n(i), Filled(n(i)),
                  Data(pieces.gradient), pieces.gradient.stride);
    return pieces.gradient;
  }

  // Where A_i, B_i and ds_i are put in backward: behind W_i and dy_i, but in fp8.
  struct AdapterPlaces {
    Matrix weight, a, b, own;
  };
  AdapterPlaces PlacesOf(size_t i, const Matrix& gradient, const BackwardPieces& pieces) {
    if (sizes_.fp8) return {.a = pieces.fp8.a, .b = pieces.fp8.b, .own = pieces.fp8.own};
    const Matrix weight = WeightWithRoom(i, pieces.wide);
    const int64_t n_filled = Filled(n(i));
    return {.weight = weight,
            .a = At(weight, n_filled, 0),
            .b = At(weight, 0, sizes_.k),
            .own = At(gradient, 0, n_filled)};
  }

  // ds_i of all rows, and, if the input's gradient is wanted, A_i and ds_i in their places.
  void BackwardHidden(size_t i, const Matrix& gradient, const AdapterPlaces& places,
                      const TensorView& dhidden, bool want_dx, const BackwardPieces& pieces) {
    const int64_t width = part_.linear_width(i), n_filled = Filled(n(i));
    const Matrix &a = places.a, &b = places.b;
    PlaceB<T>(stream(), table(), uploaded_.linear_columns[i], width, n(i), Filled(n(i)), Data(b),
              b.stride);
    if (want_dx) {
      PlaceA<T>(stream(), table(), uploaded_.linear_columns[i], width, k(), sizes_.k, Data(a),
                a.stride);
    }
    Multiply({.a = gradient,
              .b = b,
              .out = pieces.sums,
              .rows = sizes_.rows,
              .columns = width,
              .depth = n_filled,
              .output = DType::kF32});
    SelectHidden<T>(stream(), table(), part_.rows, static_cast<int>(i), Floats(pieces.sums),
                    pieces.sums.stride, Data(RowsOf(dhidden)), dhidden.dim(1),
                    Rows::kWithoutDropout, width, want_dx ? Data(places.own) : nullptr,
                    places.own.stride);
  }

  void BackwardInput(size_t i, const Matrix& gradient, const Matrix& weight, const Matrix& out,
                     bool direct) {
    Multiply({.a = gradient,
              .b = weight,
              .out = out,
              .rows = sizes_.rows,
              .columns = sizes_.k,
              .depth = Filled(n(i)) + part_.linear_width(i),
              .output = direct ? context_.type : DType::kF32,
              .accumulate = i > 0});
  }

  void BackwardInputFp8(size_t i, const Matrix& dy, const Matrix& out, bool direct,
                        const Fp8Pieces& pieces) {
    const DType output = direct ? context_.type : DType::kF32;
    const int64_t width = part_.linear_width(i);
    if (width > 0) {
      Multiply({.a = pieces.own,
                .b = pieces.a,
                .out = out,
                .rows = sizes_.rows,
                .columns = sizes_.k,
                .depth = width,
                .output = output,
                .accumulate = i > 0});
    } else if (i == 0) {
      Zero(out, output);
    }
    RowsToCodes(dy, n(i), Filled(n(i)), pieces.rows);
    AddFp8Product(pieces.rows, PackedOf(*group_[i]).backward(), sizes_.k, Filled(n(i)), out,
                  output);
  }

  // db += dy^T hidden over each segment's own rows.
  void BackwardB(size_t i, const Matrix& gradient, const ConstTensorView& hidden,
                 absl::Span<const Segment* const> segments, const BackwardPieces& pieces) {
    PlaceOfLinear(i, hidden, Rows::kAll, pieces.placed);
    for (size_t s = 0; s < part_.segments.size(); ++s) {
      const SegmentRows& segment = part_.segments[s];
      const int64_t first = segment.row_begin - part_.rows.begin;
      for (int32_t at = segment.slice_begin; at < segment.slice_end; ++at) {
        const Slice& slice = part_.slices[at];
        if (slice.linear != static_cast<int32_t>(i)) continue;
        const Matrix db = MatrixOf(segments[s]->adapters[i]->db);
        // Depends on the adapter alone.
        const bool direct = IsFilled(n(i)) && IsProductOperand<float>(db, slice.rank);
        Multiply({.a = At(gradient, first, 0),
                  .a_transposed = true,
                  .b = At(pieces.placed, first, slice.linear_column),
                  .out = direct ? db : pieces.db,
                  .rows = Filled(n(i)),
                  .columns = Filled(slice.rank),
                  .depth = segment.row_end - segment.row_begin,
                  .output = DType::kF32,
                  .accumulate = direct});
        if (direct) continue;
        AddMatrix(stream(), Floats(pieces.db), pieces.db.stride, n(i), slice.rank, Floats(db),
                  db.stride);
      }
    }
  }

  // da += ds^T dropout(x) over each segment's own rows, all of its slices in one product.
  void BackwardA(const ConstTensorView& x, const ConstTensorView& dhidden,
                 absl::Span<const Segment* const> segments, const BackwardPieces& pieces) {
    PlaceAll(dhidden, Rows::kAll, pieces.placed);
    Matrix input = RowsOf(x);
    if (part_.dropout || !IsProductOperand<T>(input, k())) {
      CopyInput<T>(stream(), table(), part_.rows, Data(input), input.stride, k(), sizes_.k,
                   /*drop=*/true, Data(pieces.input), pieces.input.stride);
      input = pieces.input;
    }
    for (size_t s = 0; s < part_.segments.size(); ++s) {
      const SegmentRows& segment = part_.segments[s];
      const int64_t first = segment.row_begin - part_.rows.begin;
      const Slice& head = part_.slices[segment.slice_begin];
      const Slice& tail = part_.slices[segment.slice_end - 1];
      const Matrix head_da = MatrixOf(segments[s]->adapters[head.linear]->da);
      // One slice, whose rank is a whole tile: depends on the adapter alone.
      const bool direct = segment.slice_end == segment.slice_begin + 1 && IsFilled(head.rank) &&
                          IsProductOperand<float>(head_da, k());
      Multiply({.a = At(pieces.placed, first, head.group_column),
                .a_transposed = true,
                .b = At(input, first, 0),
                .out = direct ? head_da : pieces.da,
                .rows = tail.group_column + Filled(tail.rank) - head.group_column,
                .columns = sizes_.k,
                .depth = segment.row_end - segment.row_begin,
                .output = DType::kF32,
                .accumulate = direct});
      if (direct) continue;
      for (int32_t at = segment.slice_begin; at < segment.slice_end; ++at) {
        const Slice& slice = part_.slices[at];
        const Matrix own =
            Offset(pieces.da, DType::kF32, slice.group_column - head.group_column, 0);
        AddMatrix(stream(), Floats(own), own.stride, slice.rank, k(),
                  segments[s]->adapters[slice.linear]->da.as<float>(), k());
      }
    }
  }

  const Context& context_;
  Gpu& gpu_;
  const Linears group_;
  const AdapterPart& part_;
  PartSizes sizes_;
  UploadedPart uploaded_;
};

// Calls operation(part, its segments) for each part of the batch.
template <typename Operation>
void ForParts(Linears group, absl::Span<const Segment> segments, int64_t rows,
              const Operation& operation) {
  const auto linears = static_cast<int64_t>(group.size());
  std::vector<const Segment*> own;
  size_t next = 0;
  for (const AdapterPart& part : PlanAdapters(segments, linears, rows, kAdapterRoom)) {
    own.clear();
    for (const SegmentRows& planned : part.segments) {
      // The plan leaves out segments without rows or adapters.
      while (segments[next].row_begin != planned.row_begin || segments[next].hidden_width() == 0 ||
             segments[next].row_begin == segments[next].row_end) {
        ++next;
      }
      own.push_back(&segments[next++]);
    }
    operation(part, own);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedLinear>> PackedLinear::Create(std::shared_ptr<Gpu> gpu,
                                                                   const ConstTensorView& weight,
                                                                   int64_t room) {
  const int64_t n = weight.dim(0), k = weight.dim(1), element = SizeOf(weight.dtype);
  const int64_t stride = Filled(k) + room;
  auto linear = std::unique_ptr<PackedLinear>(new PackedLinear(gpu, n, k));
  DW_RETURN_IF_ERROR(linear->Allocate((Filled(n) + room) * stride * element));
  linear->matrix_ = {linear->data_, stride};
  gpu->CopyRowsToDevice(weight.data, n, k * element, linear->matrix_.data, stride * element);
  return linear;
}

absl::StatusOr<std::unique_ptr<PackedLinear>> PackedLinear::CreateFp8(
    std::shared_ptr<Gpu> gpu, const ConstTensorView& weight) {
  const int64_t n = weight.dim(0), k = weight.dim(1);
  auto linear = std::unique_ptr<PackedLinear>(new PackedLinear(gpu, n, k));
  const auto take = [&](Pieces pieces) {
    const auto matrix = [&](int64_t rows, int64_t columns) {
      return Fp8Matrix{.codes = pieces.TakeMatrix(DType::kF8E4M3, Filled(rows), Filled(columns)),
                       .scales = static_cast<float*>(pieces.Take(Filled(rows) * sizeof(float)))};
    };
    linear->forward_ = matrix(n, k);
    linear->backward_ = matrix(k, n);
    return pieces.used();
  };
  DW_RETURN_IF_ERROR(linear->Allocate(take(Pieces(nullptr))));
  take(Pieces(linear->data_));
  // In bf16, as it is and transposed, until it is packed.
  Scratch scratch(*gpu);
  DW_RETURN_IF_ERROR(scratch.Reserve(2 * weight.bytes() + 1024));
  struct Whole {
    Matrix as_is, transposed;
  };
  const Whole whole = scratch.Lay([&](Pieces& pieces) {
    return Whole{pieces.TakeMatrix(DType::kBF16, n, k), pieces.TakeMatrix(DType::kBF16, k, n)};
  });
  const auto pack = [&](const Matrix& from, int64_t rows, int64_t columns, const Fp8Matrix& to) {
    RowsToFp8(gpu->stream(), static_cast<const Bf16*>(from.data), from.stride, rows, columns,
              Filled(columns), static_cast<uint8_t*>(to.codes.data), to.codes.stride, to.scales);
  };
  gpu->CopyToDevice(weight.data, whole.as_is.data, weight.bytes());
  Transpose(gpu->stream(), static_cast<const Bf16*>(whole.as_is.data), k, n, k,
            static_cast<Bf16*>(whole.transposed.data), n);
  pack(whole.as_is, n, k, linear->forward_);
  pack(whole.transposed, k, n, linear->backward_);
  gpu->Issued("PackFp8");
  return linear;
}

absl::Status PackedLinear::Allocate(int64_t bytes) {
  DW_ASSIGN_OR_RETURN(data_, gpu_->Allocate(bytes));
  bytes_ = bytes;
  return absl::OkStatus();
}

void ForwardLinears(const Context& context, Linears group, absl::Span<const Segment> segments,
                    const ConstTensorView& x, const TensorView& hidden,
                    absl::Span<const TensorView> y) {
  WithElement(context.type, [&](auto element) {
    ForParts(group, segments, x.dim(0),
             [&](const AdapterPart& part, absl::Span<const Segment* const>) {
               PartOperation<decltype(element)>(context, group, part).Forward(x, hidden, y);
             });
  });
}

void BackwardLinears(const Context& context, Linears group, absl::Span<const Segment> segments,
                     const ConstTensorView& x, const ConstTensorView& hidden,
                     absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                     const TensorView& dx) {
  WithElement(context.type, [&](auto element) {
    ForParts(group, segments, x.dim(0),
             [&](const AdapterPart& part, absl::Span<const Segment* const> own) {
               PartOperation<decltype(element)>(context, group, part)
                   .Backward(x, hidden, dy, dhidden, dx, own);
             });
  });
}

int64_t LinearScratchBytes(DType type, bool fp8, const PassShape& pass) {
  constexpr int64_t kLinears = kGroupLinearsMax;
  PartSizes sizes;
  sizes.rows = pass.rows;
  sizes.k = Filled(pass.linear);
  sizes.n = sizes.k;
  sizes.fp8 = fp8;
  if (pass.hidden > 0) {
    const int64_t widest = pass.hidden + kLinears * kColumnMultiple;
    sizes.linear_width = std::max(kAdapterRoom, Filled(widest));
    sizes.group_width = kLinears * sizes.linear_width;
    // A rank of 1 fills kColumnMultiple columns.
    sizes.table_bytes = (sizes.group_width + kLinears * sizes.linear_width) * sizeof(Column) +
                        sizes.group_width / kColumnMultiple *
                            (sizeof(SegmentRows) + sizeof(Slice) + sizeof(int32_t)) +
                        (kLinears + 4) * 16;
    sizes.dropout = true;
  }
  sizes.whole_rows = IsFilled(pass.linear) && IsFilled(pass.width);
  Pieces forward(nullptr), backward(nullptr);
  TakeForward(type, sizes, forward);
  if (pass.training) TakeBackward(type, sizes, backward);
  return std::max(forward.used(), backward.used());
}

}  // namespace deltaworks::trainer::cuda
