#include "trainer/backend/cuda/linear_group.h"

#include <algorithm>
#include <memory>
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
};

struct ForwardPieces {
  void* table;
  Matrix input;    // [rows, k + linear_width]: [x | s].
  Matrix dropped;  // [rows, k]: x after dropout.
  Matrix stack;    // [group_width, k]: all A.
  Matrix sums;     // [rows, group_width] f32: x A^T.
  Matrix out;      // [rows, n], if y's rows do not begin at 16 bytes.
  Matrix wide;     // A weight with room for more than kAdapterRoom columns.
};

Matrix TakeWide(DType type, const PartSizes& sizes, Pieces& pieces) {
  if (sizes.linear_width <= kAdapterRoom) return {};
  return pieces.TakeMatrix(type, sizes.n + sizes.linear_width, sizes.k + sizes.linear_width);
}

ForwardPieces TakeForward(DType type, const PartSizes& sizes, Pieces& pieces) {
  return {.table = pieces.Take(sizes.table_bytes),
          .input = pieces.TakeMatrix(type, sizes.rows, sizes.k + sizes.linear_width),
          .dropped = pieces.TakeMatrix(type, sizes.dropout ? sizes.rows : 0, sizes.k),
          .stack = pieces.TakeMatrix(type, sizes.group_width, sizes.k),
          .sums = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.group_width),
          .out = pieces.TakeMatrix(type, sizes.whole_rows ? 0 : sizes.rows, sizes.n),
          .wide = TakeWide(type, sizes, pieces)};
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
};

BackwardPieces TakeBackward(DType type, const PartSizes& sizes, Pieces& pieces) {
  const int64_t dropped_rows = sizes.dropout ? sizes.rows : 0;
  return {.table = pieces.Take(sizes.table_bytes),
          .gradient = pieces.TakeMatrix(type, sizes.rows, sizes.n + sizes.linear_width),
          .input = pieces.TakeMatrix(type, sizes.rows, sizes.k),
          .stack = pieces.TakeMatrix(type, sizes.group_width, sizes.k),
          .sums = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.linear_width),
          .placed = pieces.TakeMatrix(type, sizes.rows, sizes.group_width),
          .db = pieces.TakeMatrix(DType::kF32, sizes.n, sizes.linear_width),
          .da = pieces.TakeMatrix(DType::kF32, sizes.group_width, sizes.k),
          .dx = pieces.TakeMatrix(DType::kF32, sizes.rows, sizes.k),
          .dx_of_dropped = pieces.TakeMatrix(DType::kF32, dropped_rows, sizes.k),
          .wide = TakeWide(type, sizes, pieces)};
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
    if (sizes_.linear_width > 0 || !IsProductOperand<T>(input, k())) {
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
      ForwardLinear(i, input, hidden, RowsOf(y[i]), pieces);
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
      const Matrix weight = WeightWithRoom(i, pieces.wide);
      if (width > 0) BackwardHidden(i, gradient, weight, dhidden, dx.data != nullptr, pieces);
      if (dx.data != nullptr) {
        BackwardInput(i, gradient, weight, direct ? RowsOf(dx) : pieces.dx, direct);
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

  void ForwardLinear(size_t i, const Matrix& input, const ConstTensorView& hidden, const Matrix& y,
                     const ForwardPieces& pieces) {
    const int64_t width = part_.linear_width(i);
    const Matrix weight = WeightWithRoom(i, pieces.wide);
    if (width > 0) {
      PlaceB<T>(stream(), table(), uploaded_.linear_columns[i], width, n(i),
                Data(At(weight, 0, sizes_.k)), weight.stride);
      PlaceOfLinear(i, hidden, Rows::kAll, At(input, 0, sizes_.k));
    }
    const bool direct = IsProductOperand<T>(y, n(i));
    const Matrix out = direct ? y : pieces.out;
    Multiply({.a = input,
              .b = weight,
              .b_transposed = true,
              .out = out,
              .rows = sizes_.rows,
              .columns = Filled(n(i)),
              .depth = sizes_.k + width,
              .output = context_.type});
    if (!direct) {
      CopyMatrix<T>(stream(), Data(out), out.stride, sizes_.rows, n(i), n(i), Data(y), y.stride);
    }
  }

  // dy_i, with room for ds_i behind.
  Matrix Gradient(size_t i, const Matrix& dy, const BackwardPieces& pieces) {
    if (part_.linear_width(i) == 0 && IsProductOperand<T>(dy, n(i))) return dy;
    CopyMatrix<T>(stream(), Data(dy), dy.stride, sizes_.rows, n(i), Filled(n(i)),
                  Data(pieces.gradient), pieces.gradient.stride);
    return pieces.gradient;
  }

  // ds_i of all rows, and, if the input's gradient is wanted, behind dy_i with A_i behind W_i.
  void BackwardHidden(size_t i, const Matrix& gradient, const Matrix& weight,
                      const TensorView& dhidden, bool want_dx, const BackwardPieces& pieces) {
    const int64_t width = part_.linear_width(i), n_filled = Filled(n(i));
    const Matrix a = At(weight, n_filled, 0), b = At(weight, 0, sizes_.k);
    PlaceB<T>(stream(), table(), uploaded_.linear_columns[i], width, n(i), Data(b), b.stride);
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
                    Rows::kWithoutDropout, width,
                    want_dx ? Data(At(gradient, 0, n_filled)) : nullptr, gradient.stride);
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

// Calls function with a value of the compute type's element.
template <typename Function>
void WithElement(DType type, const Function& function) {
  if (type == DType::kBF16) {
    function(Bf16{});
  } else {
    function(float{});
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedLinear>> PackedLinear::Create(std::shared_ptr<Gpu> gpu,
                                                                   const ConstTensorView& weight) {
  const int64_t n = weight.dim(0), k = weight.dim(1), element = SizeOf(weight.dtype);
  const int64_t stride = Filled(k) + kAdapterRoom;
  auto linear = std::unique_ptr<PackedLinear>(new PackedLinear(gpu, n, k));
  linear->bytes_ = (Filled(n) + kAdapterRoom) * stride * element;
  DW_ASSIGN_OR_RETURN(linear->matrix_.data, gpu->Allocate(linear->bytes_));
  linear->matrix_.stride = stride;
  gpu->CopyRowsToDevice(weight.data, n, k * element, linear->matrix_.data, stride * element);
  return linear;
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

int64_t LinearScratchBytes(DType type, const PassShape& pass) {
  // Linears of a group in the models that there are.
  constexpr int64_t kLinears = 3;
  PartSizes sizes;
  sizes.rows = pass.rows;
  sizes.k = Filled(pass.linear);
  sizes.n = sizes.k;
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
