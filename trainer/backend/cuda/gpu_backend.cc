#include "trainer/backend/cuda/gpu_backend.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/backend/adamw_scalars.h"
#include "trainer/backend/cuda/attention_tables.h"
#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/linear_decode.h"
#include "trainer/backend/cuda/linear_group.h"
#include "trainer/backend/cuda/output_layer.h"
#include "trainer/backend/cuda/scratch.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

using cuda::Bf16;

// Raised when a kernel's bytes change.
constexpr int kKernelVersion = 1;

void CheckTensor(const ConstTensorView& tensor, DType type, absl::Span<const int64_t> shape,
                 const char* name) {
  CHECK(tensor.dtype == type) << name << " is " << NameOf(tensor.dtype) << ", want "
                              << NameOf(type);
  CHECK(absl::MakeConstSpan(tensor.shape) == shape)
      << name << " is " << ShapeText(tensor.shape) << ", want "
      << ShapeText({shape.begin(), shape.end()});
}

// The Gpu is open until the backend and the last of its memory are gone.
class CardBuffer final : public DeviceBuffer {
 public:
  CardBuffer(std::shared_ptr<cuda::Gpu> gpu, void* data, int64_t bytes)
      : gpu_(std::move(gpu)), data_(data), bytes_(bytes) {}
  ~CardBuffer() override { gpu_->Free(data_); }
  void* data() override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<cuda::Gpu> gpu_;
  void* const data_;
  const int64_t bytes_;
};

template <typename T>
class GpuBackend final : public Backend {
 public:
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, Bf16>);

  GpuBackend(std::unique_ptr<cuda::Gpu> gpu, bool fp8_base,
             std::function<void(const char*)> finished)
      : gpu_(std::move(gpu)),
        fp8_base_(fp8_base),
        finished_(std::move(finished)),
        scratch_(*gpu_),
        tables_(*gpu_),
        context_{*gpu_, scratch_, compute_type()} {}

  DType compute_type() const override {
    return std::is_same_v<T, Bf16> ? DType::kBF16 : DType::kF32;
  }
  DType wide_type() const override { return DType::kF32; }

  std::string numerics_class() const override {
    return absl::StrCat("cuda/", gpu_->numerics(), "/",
                        fp8_base_                        ? "fp8"
                        : compute_type() == DType::kBF16 ? "bf16"
                                                         : "f32",
                        "/kernels-", kKernelVersion);
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    DW_ASSIGN_OR_RETURN(void* data, gpu_->Allocate(bytes));
    return std::make_unique<CardBuffer>(gpu_, data, bytes);
  }

  int64_t ScratchBytes(const PassShape& pass) const override {
    return OperationBytes(pass) + cuda::AttentionTables::Bytes(pass.rows, PagedKeys(pass));
  }
  absl::Status ReserveScratch(const PassShape& pass) override {
    absl::Status status = scratch_.Reserve(pass.rows == 0 ? 0 : OperationBytes(pass));
    if (status.ok()) status = tables_.Reserve(pass.rows, PagedKeys(pass));
    if (status.ok()) return status;
    scratch_.Reserve(0).IgnoreError();
    tables_.Reserve(0, 0).IgnoreError();
    return status;
  }
  int64_t ScratchHeld() const { return scratch_.bytes() + tables_.bytes(); }

  void CopyToDevice(const void* host, TensorView device) override {
    if (device.bytes() > 0) gpu_->CopyToDevice(host, device.data, device.bytes());
  }
  void CopyToHost(ConstTensorView device, void* host) override {
    if (device.bytes() > 0) gpu_->CopyToHost(device.data, host, device.bytes());
  }

  absl::StatusOr<std::unique_ptr<FrozenLinear>> Pack(ConstTensorView weight) override {
    CheckTensor(weight, compute_type(), {weight.dim(0), weight.dim(1)}, "weight");
    return fp8_base_ ? cuda::PackedLinear::CreateFp8(gpu_, weight)
                     : cuda::PackedLinear::Create(gpu_, weight, cuda::kAdapterRoom);
  }
  absl::StatusOr<std::unique_ptr<FrozenLinear>> PackTable(ConstTensorView weight) override {
    CheckTensor(weight, compute_type(), {weight.dim(0), weight.dim(1)}, "weight");
    return cuda::PackedLinear::Create(gpu_, weight, /*room=*/0);
  }

  void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                          absl::Span<const Segment> segments, ConstTensorView x, TensorView hidden,
                          absl::Span<const TensorView> y, ProductPath path) override {
    CheckGroup(group, segments, x, hidden);
    CHECK_EQ(y.size(), group.size());
    for (size_t i = 0; i < y.size(); ++i) {
      CheckTensor(y[i], compute_type(), {x.dim(0), group[i]->n()}, "y");
    }
    if (x.dim(0) == 0) return;
    if (path == ProductPath::kDecode) {
      cuda::DecodeLinears(context_, group, segments, x, hidden, y);
    } else {
      cuda::ForwardLinears(context_, group, segments, x, hidden, y);
    }
    Issued("LinearGroupForward");
  }

  void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                           absl::Span<const Segment> segments, ConstTensorView x,
                           ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                           TensorView dhidden, TensorView dx) override {
    CheckGroup(group, segments, x, hidden);
    CHECK_EQ(dy.size(), group.size());
    for (size_t i = 0; i < dy.size(); ++i) {
      CheckTensor(dy[i], compute_type(), {x.dim(0), group[i]->n()}, "dy");
    }
    for (const Segment& segment : segments) CheckGradients(segment);
    if (HasAdapters(segments)) CheckTensor(dhidden, compute_type(), hidden.shape, "dhidden");
    if (dx.data != nullptr) CheckTensor(dx, compute_type(), x.shape, "dx");
    if (x.dim(0) == 0) return;
    cuda::BackwardLinears(context_, group, segments, x, hidden, dy, dhidden, dx);
    Issued("LinearGroupBackward");
  }

  void Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) override {
    CheckTensor(out, DType::kF32, {ids.dim(0), table.k()}, "out");
    const cuda::Matrix& matrix = cuda::PackedOf(table).matrix();
    cuda::Embed<T>(stream(), static_cast<const T*>(matrix.data), matrix.stride, table.n(),
                   ids.as<const int32_t>(), ids.dim(0), table.k(), out.as<float>());
    Issued("Embed");
  }

  void RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon, TensorView y,
                      TensorView rstd) override {
    const int64_t d = x.dim(1);
    CheckTensor(x, DType::kF32, {x.dim(0), d}, "x");
    CheckTensor(weight, DType::kF32, {d}, "weight");
    CheckTensor(y, compute_type(), x.shape, "y");
    CheckTensor(rstd, DType::kF32, {x.dim(0)}, "rstd");
    cuda::RmsNormForward<T>(stream(), x.as<const float>(), weight.as<const float>(),
                            static_cast<float>(epsilon), x.dim(0), d, Elements(y),
                            rstd.as<float>());
    Issued("RmsNormForward");
  }

  void RmsNormBackward(ConstTensorView x, ConstTensorView weight, ConstTensorView rstd,
                       ConstTensorView dy, TensorView dx) override {
    const int64_t d = x.dim(1);
    CheckTensor(x, DType::kF32, {x.dim(0), d}, "x");
    CheckTensor(weight, DType::kF32, {d}, "weight");
    CheckTensor(rstd, DType::kF32, {x.dim(0)}, "rstd");
    CheckTensor(dy, compute_type(), x.shape, "dy");
    CheckTensor(dx, DType::kF32, x.shape, "dx");
    cuda::RmsNormBackward<T>(stream(), x.as<const float>(), weight.as<const float>(),
                             rstd.as<const float>(), Elements(dy), x.dim(0), d, dx.as<float>());
    Issued("RmsNormBackward");
  }

  void AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) override {
    CheckTensor(x, DType::kF32, out.shape, "x");
    CheckTensor(y, compute_type(), out.shape, "y");
    CheckTensor(out, DType::kF32, out.shape, "out");
    cuda::AddResidual<T>(stream(), x.as<const float>(), Elements(y), out.elements(),
                         out.as<float>());
    Issued("AddResidual");
  }

  void Round(ConstTensorView x, TensorView y) override {
    CheckTensor(x, DType::kF32, y.shape, "x");
    CheckTensor(y, compute_type(), y.shape, "y");
    cuda::Round<T>(stream(), x.as<const float>(), x.elements(), Elements(y));
    Issued("Round");
  }

  void Rope(TensorView x, int64_t heads, ConstTensorView positions, ConstTensorView cosines,
            ConstTensorView sines, bool inverse) override {
    const int64_t half = cosines.dim(1);
    CheckTensor(x, compute_type(), {positions.dim(0), heads * 2 * half}, "x");
    CheckTensor(sines, DType::kF32, cosines.shape, "sines");
    cuda::Rope<T>(stream(), Elements(x), x.dim(0), heads, half, positions.as<const int32_t>(),
                  cosines.as<const float>(), sines.as<const float>(), inverse);
    Issued("Rope");
  }

  void AttentionForward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                        ConstTensorView q, ConstTensorView k, ConstTensorView v, TensorView out,
                        TensorView lse, ProductPath path) override {
    CheckAttention(shape, q, k, v);
    CheckTensor(out, compute_type(), q.shape, "out");
    if (lse.data != nullptr) CheckTensor(lse, DType::kF32, {q.dim(0), shape.query_heads}, "lse");
    tables_.Use(spans, shape.causal);
    const cuda::AttentionArguments arguments = ArgumentsOf(shape);
    float* sums = lse.data == nullptr ? nullptr : lse.as<float>();
    if (path == ProductPath::kDecode) {
      const auto& queries = tables_.single_queries();
      const int64_t keys = tables_.longest_keys();
      void* parts = scratch_.Lay([&](cuda::Pieces& pieces) {
        return pieces.Take(
            cuda::DecodeScratchBytes(queries.count, keys, shape.query_heads, shape.head_dim));
      });
      cuda::AttentionDecode<T>(stream(), arguments, queries.data, queries.count, keys, Elements(q),
                               Elements(k), Elements(v), Elements(out), sums,
                               static_cast<float*>(parts));
    } else {
      cuda::AttentionForward<T>(stream(), arguments, tables_.queries().data,
                                tables_.queries().count, Elements(q), Elements(k), Elements(v),
                                Elements(out), sums);
    }
    Issued("AttentionForward");
  }

  void AttentionBackward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                         ConstTensorView q, ConstTensorView k, ConstTensorView v,
                         ConstTensorView out, ConstTensorView lse, ConstTensorView dout,
                         TensorView dq, TensorView dk, TensorView dv) override {
    CheckAttention(shape, q, k, v);
    CheckTensor(out, compute_type(), q.shape, "out");
    CheckTensor(lse, DType::kF32, {q.dim(0), shape.query_heads}, "lse");
    CheckTensor(dout, compute_type(), q.shape, "dout");
    CheckTensor(dq, compute_type(), q.shape, "dq");
    CheckTensor(dk, compute_type(), k.shape, "dk");
    CheckTensor(dv, compute_type(), k.shape, "dv");
    tables_.Use(spans, shape.causal);
    void* delta = scratch_.Lay(
        [&](cuda::Pieces& pieces) { return pieces.Take(DeltaBytes(q.dim(0), shape.query_heads)); });
    cuda::AttentionBackward<T>(stream(), ArgumentsOf(shape), tables_.queries().data,
                               tables_.queries().count, tables_.keys().data, tables_.keys().count,
                               Elements(q), Elements(k), Elements(v), Elements(out),
                               lse.as<const float>(), Elements(dout), static_cast<float*>(delta),
                               Elements(dq), Elements(dk), Elements(dv));
    Issued("AttentionBackward");
  }

  void SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) override {
    CheckTensor(gate, compute_type(), out.shape, "gate");
    CheckTensor(up, compute_type(), out.shape, "up");
    CheckTensor(out, compute_type(), out.shape, "out");
    cuda::SwigluForward<T>(stream(), Elements(gate), Elements(up), out.elements(), Elements(out));
    Issued("SwigluForward");
  }

  void SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                      TensorView dgate, TensorView dup) override {
    CheckTensor(gate, compute_type(), dout.shape, "gate");
    CheckTensor(up, compute_type(), dout.shape, "up");
    CheckTensor(dout, compute_type(), dout.shape, "dout");
    CheckTensor(dgate, compute_type(), dout.shape, "dgate");
    CheckTensor(dup, compute_type(), dout.shape, "dup");
    cuda::SwigluBackward<T>(stream(), Elements(gate), Elements(up), Elements(dout), dout.elements(),
                            Elements(dgate), Elements(dup));
    Issued("SwigluBackward");
  }

  void GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    CheckTensor(x, compute_type(), {x.dim(0), x.dim(1)}, "x");
    CheckTensor(out, compute_type(), {rows.dim(0), x.dim(1)}, "out");
    cuda::GatherRows<T>(stream(), Elements(x), rows.as<const int32_t>(), rows.dim(0), x.dim(1),
                        Elements(out));
    Issued("GatherRows");
  }

  void ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    CheckTensor(x, compute_type(), {rows.dim(0), out.dim(1)}, "x");
    CheckTensor(out, compute_type(), {out.dim(0), out.dim(1)}, "out");
    cuda::ScatterRows<T>(stream(), Elements(x), rows.as<const int32_t>(), rows.dim(0), x.dim(1),
                         Elements(out));
    Issued("ScatterRows");
  }

  void CrossEntropy(const FrozenLinear& output, ConstTensorView x, ConstTensorView labels,
                    ConstTensorView weights, TensorView losses, TensorView dx) override {
    const int64_t rows = x.dim(0);
    CheckTensor(x, compute_type(), {rows, output.k()}, "x");
    CheckTensor(labels, DType::kI32, {rows}, "labels");
    CheckTensor(weights, DType::kF32, {rows}, "weights");
    CheckTensor(losses, DType::kF32, {rows}, "losses");
    if (dx.data != nullptr) CheckTensor(dx, compute_type(), x.shape, "dx");
    cuda::ComputeCrossEntropy(context_, cuda::PackedOf(output), x, labels, weights, losses, dx);
    Issued("CrossEntropy");
  }

  void Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
              ProductPath) override {
    CheckTensor(x, compute_type(), {x.dim(0), output.k()}, "x");
    CheckTensor(logits, DType::kF32, {x.dim(0), output.n()}, "logits");
    cuda::ComputeLogits(context_, cuda::PackedOf(output), x, logits);
    Issued("Logits");
  }

  void ArgMax(ConstTensorView x, TensorView places) override {
    CheckTensor(x, DType::kF32, {x.dim(0), x.dim(1)}, "x");
    CheckTensor(places, DType::kI32, {x.dim(0)}, "places");
    cuda::ArgMax(stream(), x.as<const float>(), x.dim(1), x.dim(0), x.dim(1), places.as<int32_t>());
    Issued("ArgMax");
  }

  double SumOfSquares(ConstTensorView x) override {
    const int64_t count = x.elements();
    auto* sums = static_cast<double*>(
        scratch_.Lay([&](cuda::Pieces& pieces) { return pieces.Take(SquareBytes(count)); }));
    cuda::SumOfSquares(stream(), x.as<const float>(), count, sums + 1, sums);
    double sum = 0;
    gpu_->CopyToHost(sums, &sum, sizeof(sum));
    Issued("SumOfSquares");
    return sum;
  }

  void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
             TensorView m, TensorView v) override {
    CheckTensor(gradient, DType::kF32, parameter.shape, "gradient");
    CheckTensor(m, DType::kF32, parameter.shape, "m");
    CheckTensor(v, DType::kF32, parameter.shape, "v");
    cuda::AdamW(stream(), ScalarsOf(settings), gradient.as<const float>(), parameter.elements(),
                parameter.as<float>(), m.as<float>(), v.as<float>());
    Issued("AdamW");
  }

  void Fill(TensorView x, double value) override {
    if (x.dtype == DType::kBF16) {
      cuda::FillValue<Bf16>(stream(), static_cast<Bf16*>(x.data), x.elements(),
                            static_cast<float>(value));
    } else {
      cuda::FillValue<float>(stream(), x.as<float>(), x.elements(), static_cast<float>(value));
    }
    Issued("Fill");
  }

  void Copy(ConstTensorView from, TensorView to) override {
    CHECK(from.dtype == to.dtype && from.elements() == to.elements())
        << NameOf(from.dtype) << " " << ShapeText(from.shape) << " to " << NameOf(to.dtype) << " "
        << ShapeText(to.shape);
    if (to.bytes() > 0) gpu_->CopyOnDevice(from.data, to.data, to.bytes());
    Issued("Copy");
  }

  absl::Status Synchronize() override { return gpu_->Synchronize(); }

 private:
  cuda::Stream stream() const { return gpu_->stream(); }
  void Issued(const char* operation) {
    gpu_->Issued(operation);
    if (finished_ == nullptr) return;
    gpu_->Wait();
    finished_(operation);
  }

  static const T* Elements(const ConstTensorView& tensor) {
    return static_cast<const T*>(tensor.data);
  }
  static T* Elements(const TensorView& tensor) { return static_cast<T*>(tensor.data); }

  void CheckGroup(absl::Span<const FrozenLinear* const> group, absl::Span<const Segment> segments,
                  const ConstTensorView& x, const ConstTensorView& hidden) const {
    CHECK(!group.empty());
    CheckTensor(x, compute_type(), {x.dim(0), group[0]->k()}, "x");
    for (const FrozenLinear* linear : group) CHECK_EQ(linear->k(), group[0]->k());
    int64_t row = 0;
    for (const Segment& segment : segments) {
      CHECK(segment.row_begin >= row && segment.row_end >= segment.row_begin)
          << "segment begins at row " << segment.row_begin << ", want " << row << " at least";
      row = segment.row_end;
      CHECK_EQ(segment.adapters.size(), group.size());
      CHECK_LE(segment.hidden_width(), segment.hidden_width() == 0 ? 0 : hidden.dim(1));
      for (size_t i = 0; i < group.size(); ++i) {
        const LoraPair* pair = segment.adapters[i];
        if (pair == nullptr) continue;
        CheckTensor(pair->a, compute_type(), {pair->rank(), group[i]->k()}, "a");
        CheckTensor(pair->b, compute_type(), {group[i]->n(), pair->rank()}, "b");
      }
    }
    CHECK_LE(row, x.dim(0));
  }
  static bool HasAdapters(absl::Span<const Segment> segments) {
    return std::any_of(segments.begin(), segments.end(),
                       [](const Segment& segment) { return segment.hidden_width() > 0; });
  }
  static void CheckGradients(const Segment& segment) {
    for (const LoraPair* pair : segment.adapters) {
      if (pair == nullptr) continue;
      CheckTensor(pair->da, DType::kF32, pair->a.shape, "da");
      CheckTensor(pair->db, DType::kF32, pair->b.shape, "db");
    }
  }
  void CheckAttention(const AttentionShape& shape, const ConstTensorView& q,
                      const ConstTensorView& k, const ConstTensorView& v) const {
    CHECK(shape.head_dim >= 1 && shape.head_dim <= 256) << "head size is " << shape.head_dim;
    CHECK(shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0)
        << shape.query_heads << " heads over " << shape.kv_heads;
    CheckTensor(q, compute_type(), {q.dim(0), shape.query_heads * shape.head_dim}, "q");
    CheckTensor(k, compute_type(), {k.dim(0), shape.kv_heads * shape.head_dim}, "k");
    CheckTensor(v, compute_type(), k.shape, "v");
  }
  cuda::AttentionArguments ArgumentsOf(const AttentionShape& shape) const {
    return {.query_heads = static_cast<int>(shape.query_heads),
            .kv_heads = static_cast<int>(shape.kv_heads),
            .head_dim = static_cast<int>(shape.head_dim),
            .scale = shape.scale,
            .spans = tables_.spans(),
            .pages = tables_.pages(),
            .causal = shape.causal ? 1 : 0};
  }

  // Keys that were processed before may lie in pages.
  static int64_t PagedKeys(const PassShape& pass) { return pass.training ? 0 : pass.keys; }
  static int64_t DeltaBytes(int64_t queries, int64_t heads) {
    return queries * heads * static_cast<int64_t>(sizeof(float));
  }
  static int64_t SquareBytes(int64_t count) {
    return (cuda::SquarePartials(count) + 1) * static_cast<int64_t>(sizeof(double));
  }

  // Operations come one after the other, so the largest of each counts.
  int64_t OperationBytes(const PassShape& pass) const {
    // Partial sums of a gradient of 2^31 elements.
    int64_t bytes = pass.training ? SquareBytes(int64_t{1} << 31) : 0;
    bytes = std::max(bytes, cuda::LinearScratchBytes(compute_type(), fp8_base_, pass));
    bytes = std::max(bytes, cuda::OutputScratchBytes(compute_type(), pass));
    const int64_t heads = pass.attention.query_heads;
    if (pass.training) return std::max(bytes, DeltaBytes(pass.rows, heads));
    bytes = std::max(bytes, cuda::DecodeLinearScratchBytes(compute_type(), fp8_base_, pass));
    return std::max(bytes,
                    cuda::DecodeScratchBytes(pass.rows, pass.keys, heads, pass.attention.head_dim));
  }

  const std::shared_ptr<cuda::Gpu> gpu_;
  const bool fp8_base_;
  const std::function<void(const char*)> finished_;
  cuda::Scratch scratch_;
  cuda::AttentionTables tables_;
  const cuda::Context context_;
};

}  // namespace

std::unique_ptr<Backend> NewGpuBackend(std::unique_ptr<cuda::Gpu> gpu, DType compute_type,
                                       std::function<void(const char*)> finished) {
  const bool fp8_base = compute_type == DType::kF8E4M3;
  if (compute_type == DType::kBF16 || fp8_base) {
    return std::make_unique<GpuBackend<Bf16>>(std::move(gpu), fp8_base, std::move(finished));
  }
  CHECK(compute_type == DType::kF32) << NameOf(compute_type);
  return std::make_unique<GpuBackend<float>>(std::move(gpu), /*fp8_base=*/false,
                                             std::move(finished));
}

int64_t GpuScratchHeld(const Backend& gpu_backend) {
  if (gpu_backend.compute_type() == DType::kBF16) {
    return static_cast<const GpuBackend<Bf16>&>(gpu_backend).ScratchHeld();
  }
  return static_cast<const GpuBackend<float>&>(gpu_backend).ScratchHeld();
}

}  // namespace deltaworks::trainer
