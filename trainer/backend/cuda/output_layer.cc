#include "trainer/backend/cuda/output_layer.h"

#include <algorithm>

#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/matrices.h"

namespace deltaworks::trainer::cuda {
namespace {

// Logits of a tile of rows, in f32, need at most so many bytes, if that is kTileRows at least.
constexpr int64_t kLogitBytesMax = int64_t{256} << 20;
constexpr int64_t kTileRows = 128;

int64_t TileRows(int64_t rows, int64_t vocabulary) {
  const int64_t row_bytes = Filled(vocabulary) * static_cast<int64_t>(sizeof(float));
  const int64_t tiles = std::max<int64_t>(1, kLogitBytesMax / (kTileRows * row_bytes));
  return std::min(rows, kTileRows * tiles);
}

struct OutputPieces {
  Matrix input;     // [tile, k], where x's rows do not begin at 16 bytes.
  Matrix logits;    // [tile, vocabulary] f32.
  Matrix gradient;  // [tile, vocabulary].
  Matrix dx;        // [tile, k], as input.
};

OutputPieces TakeOutput(DType type, int64_t rows, int64_t vocabulary, int64_t k, Pieces& pieces) {
  const int64_t tile = TileRows(rows, vocabulary), copied = IsFilled(k) ? 0 : tile;
  return {.input = pieces.TakeMatrix(type, copied, Filled(k)),
          .logits = pieces.TakeMatrix(DType::kF32, tile, Filled(vocabulary)),
          .gradient = pieces.TakeMatrix(type, tile, Filled(vocabulary)),
          .dx = pieces.TakeMatrix(type, copied, Filled(k))};
}

// The output layer with elements of T.
template <typename T>
class OutputLayer {
 public:
  OutputLayer(const Context& context, const PackedLinear& output, const ConstTensorView& x)
      : context_(context),
        output_(output),
        x_(x),
        tile_(TileRows(x.dim(0), output.n())),
        pieces_(context.scratch.Lay([&](Pieces& taken) {
          return TakeOutput(context.type, x.dim(0), output.n(), output.k(), taken);
        })) {}

  void Logits(const TensorView& logits) {
    const Matrix out = MatrixOf(logits);
    for (int64_t begin = 0; begin < x_.dim(0); begin += tile_) {
      const int64_t rows = std::min(tile_, x_.dim(0) - begin);
      const Matrix target = Offset(out, DType::kF32, begin, 0);
      const bool direct = IsProductOperand<float>(target, output_.n());
      MultiplyLogits(begin, rows, direct ? target : pieces_.logits);
      if (direct) continue;
      CopyMatrix<float>(stream(), Floats(pieces_.logits), pieces_.logits.stride, rows, output_.n(),
                        output_.n(), Floats(target), target.stride);
    }
  }

  void CrossEntropy(const ConstTensorView& labels, const ConstTensorView& weights,
                    const TensorView& losses, const TensorView& dx) {
    const bool training = dx.data != nullptr;
    for (int64_t begin = 0; begin < x_.dim(0); begin += tile_) {
      const int64_t rows = std::min(tile_, x_.dim(0) - begin);
      MultiplyLogits(begin, rows, pieces_.logits);
      SoftmaxLoss<T>(stream(), Floats(pieces_.logits), pieces_.logits.stride, rows, output_.n(),
                     labels.as<const int32_t>() + begin, weights.as<const float>() + begin,
                     losses.as<float>() + begin,
                     training ? static_cast<T*>(pieces_.gradient.data) : nullptr,
                     pieces_.gradient.stride, Filled(output_.n()));
      if (training) MultiplyGradient(begin, rows, dx);
    }
  }

 private:
  Stream stream() const { return context_.gpu.stream(); }
  static float* Floats(const Matrix& matrix) { return static_cast<float*>(matrix.data); }

  void MultiplyLogits(int64_t begin, int64_t rows, const Matrix& out) {
    Matrix input = Offset(MatrixOf(x_), context_.type, begin, 0);
    if (!IsProductOperand<T>(input, output_.k())) {
      CopyMatrix<T>(stream(), static_cast<const T*>(input.data), input.stride, rows, output_.k(),
                    Filled(output_.k()), static_cast<T*>(pieces_.input.data), pieces_.input.stride);
      input = pieces_.input;
    }
    context_.gpu.Multiply({.a = input,
                           .b = output_.matrix(),
                           .b_transposed = true,
                           .out = out,
                           .rows = rows,
                           .columns = Filled(output_.n()),
                           .depth = Filled(output_.k()),
                           .input = context_.type,
                           .output = DType::kF32});
  }

  void MultiplyGradient(int64_t begin, int64_t rows, const TensorView& dx) {
    const Matrix target = Offset(MatrixOf(dx), context_.type, begin, 0);
    const bool direct = IsProductOperand<T>(target, output_.k());
    const Matrix out = direct ? target : pieces_.dx;
    context_.gpu.Multiply({.a = pieces_.gradient,
                           .b = output_.matrix(),
                           .out = out,
                           .rows = rows,
                           .columns = Filled(output_.k()),
                           .depth = Filled(output_.n()),
                           .input = context_.type,
                           .output = context_.type});
    if (direct) return;
    CopyMatrix<T>(stream(), static_cast<const T*>(out.data), out.stride, rows, output_.k(),
                  output_.k(), static_cast<T*>(target.data), target.stride);
  }

  const Context& context_;
  const PackedLinear& output_;
  const ConstTensorView& x_;
  const int64_t tile_;
  const OutputPieces pieces_;
};

}  // namespace

void ComputeLogits(const Context& context, const PackedLinear& output, const ConstTensorView& x,
                   const TensorView& logits) {
  if (x.dim(0) == 0) return;
  if (context.type == DType::kBF16) {
    OutputLayer<Bf16>(context, output, x).Logits(logits);
  } else {
    OutputLayer<float>(context, output, x).Logits(logits);
  }
}

void ComputeCrossEntropy(const Context& context, const PackedLinear& output,
                         const ConstTensorView& x, const ConstTensorView& labels,
                         const ConstTensorView& weights, const TensorView& losses,
                         const TensorView& dx) {
  if (x.dim(0) == 0) return;
  if (context.type == DType::kBF16) {
    OutputLayer<Bf16>(context, output, x).CrossEntropy(labels, weights, losses, dx);
  } else {
    OutputLayer<float>(context, output, x).CrossEntropy(labels, weights, losses, dx);
  }
}

int64_t OutputScratchBytes(DType type, const PassShape& pass) {
  Pieces pieces(nullptr);
  TakeOutput(type, pass.labels, pass.vocabulary, pass.width, pieces);
  return pieces.used();
}

}  // namespace deltaworks::trainer::cuda
