#include "trainer/backend/cpu/cpu_backend.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "trainer/backend/adamw_scalars.h"
#include "trainer/backend/arg_max.h"
#include "trainer/backend/cpu/attention.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"
#include "trainer/backend/cpu/cross_entropy.h"
#include "trainer/backend/cpu/kernels/dispatch.h"
#include "trainer/backend/cpu/linear_decode.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

// Raised when a kernel's bytes change.
constexpr int kKernelVersion = 4;

// Rows and elements of one task of the operations that only pass over memory.
constexpr int64_t kRowBlock = 16;
constexpr int64_t kElementBlock = 16384;
// Elements of one partial sum of SumOfSquares.
constexpr int64_t kSumBlock = 16384;

class CpuBackend final : public Backend {
 public:
  CpuBackend(DType compute_type, std::unique_ptr<ThreadPool> pool, const KernelSet& kernels,
             std::unique_ptr<Products> products)
      : context_(compute_type, std::move(pool), kernels, std::move(products)) {}

  DType compute_type() const override { return context_.compute_type; }
  DType wide_type() const override { return DType::kF32; }

  std::string numerics_class() const override {
    return absl::StrCat("cpu/", context_.kernels.isa, "/",
                        compute_type() == DType::kBF16 ? "bf16" : "f32", "/kernels-",
                        kKernelVersion);
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    return HostMemory::Allocate(bytes);
  }
  int64_t ScratchBytes(const PassShape& pass) const override {
    const ScratchNeed need = NeedOf(pass);
    return need.shared + context_.pool->threads() * (need.worker + Products::ScratchBytes());
  }
  absl::Status ReserveScratch(const PassShape& pass) override {
    const ScratchNeed need = pass.rows == 0 ? ScratchNeed() : NeedOf(pass);
    const int64_t unreserved = ScratchUnreserved();
    absl::Status status = context_.shared.Reserve(need.shared);
    for (Workspace& scratch : context_.scratch) {
      if (status.ok()) status = scratch.Reserve(need.worker);
    }
    if (status.ok()) {
      reserved_bytes_ = ScratchHeld() - unreserved;
      return status;
    }
    // What there is may be too little for another pass, and is too much for one that failed.
    context_.shared.Reserve(0).IgnoreError();
    for (Workspace& scratch : context_.scratch) scratch.Reserve(0).IgnoreError();
    reserved_bytes_ = 0;
    return status;
  }
  int64_t ScratchHeld() const {
    int64_t bytes = context_.shared.bytes();
    for (const Workspace& scratch : context_.scratch) bytes += scratch.bytes();
    return bytes;
  }
  int64_t ScratchUnreserved() const { return ScratchHeld() - reserved_bytes_; }
  void CopyToDevice(const void* host, TensorView device) override {
    std::memcpy(device.data, host, device.bytes());
  }
  void CopyToHost(ConstTensorView device, void* host) override {
    std::memcpy(host, device.data, device.bytes());
  }

  absl::StatusOr<std::unique_ptr<FrozenLinear>> Pack(ConstTensorView weight) override {
    CheckTensor(weight, compute_type(), {weight.dim(0), weight.dim(1)}, "weight");
    return std::make_unique<CpuFrozenLinear>(std::move(weight));
  }

  void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                          absl::Span<const Segment> segments, ConstTensorView x, TensorView hidden,
                          absl::Span<const TensorView> y, ProductPath path) override {
    const KernelScope scope = Begin();
    CheckGroup(context_, group, segments, x, hidden);
    CHECK_EQ(y.size(), group.size());
    for (size_t i = 0; i < y.size(); ++i) {
      CheckTensor(y[i], compute_type(), {x.dim(0), group[i]->n()}, "y");
    }
    if (x.dim(0) == 0) return;
    if (path == ProductPath::kDecode) {
      ForwardForDecoding(context_, group, segments, x, hidden, y);
    } else {
      ForwardInPanels(context_, group, segments, x, hidden, y);
    }
  }

  void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                           absl::Span<const Segment> segments, ConstTensorView x,
                           ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                           TensorView dhidden, TensorView dx) override {
    const KernelScope scope = Begin();
    CheckGroup(context_, group, segments, x, hidden);
    CHECK_EQ(dy.size(), group.size());
    for (size_t i = 0; i < dy.size(); ++i) {
      CheckTensor(dy[i], compute_type(), {x.dim(0), group[i]->n()}, "dy");
    }
    CheckAdapterGradients(segments);
    if (HasAdapters(segments)) CheckTensor(dhidden, compute_type(), hidden.shape, "dhidden");
    if (dx.data != nullptr) CheckTensor(dx, compute_type(), x.shape, "dx");
    if (x.dim(0) == 0) return;
    BackwardInPanels(context_, group, segments, x, hidden, dy, dhidden, dx);
  }

  void Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) override {
    const KernelScope scope = Begin();
    const int64_t d = table.k();
    CheckTensor(out, DType::kF32, {ids.dim(0), d}, "out");
    const int32_t* id = ids.as<const int32_t>();
    ForRows(ids.dim(0), [&](int64_t row) {
      CHECK(id[row] >= 0 && id[row] < table.n()) << "token is " << id[row];
      kernels().widen(ElementAt(WeightOf(table), id[row], 0), out.as<float>() + row * d, d);
    });
  }

  void RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon, TensorView y,
                      TensorView rstd) override {
    const KernelScope scope = Begin();
    const int64_t d = x.dim(1);
    CheckTensor(x, DType::kF32, {x.dim(0), d}, "x");
    CheckTensor(weight, DType::kF32, {d}, "weight");
    CheckTensor(y, compute_type(), x.shape, "y");
    CheckTensor(rstd, DType::kF32, {x.dim(0)}, "rstd");
    ForRows(x.dim(0), [&](int64_t row) {
      rstd.as<float>()[row] =
          kernels().rms_norm_forward(x.as<const float>() + row * d, weight.as<const float>(),
                                     epsilon, ElementAt(y, row, 0), d);
    });
  }

  void RmsNormBackward(ConstTensorView x, ConstTensorView weight, ConstTensorView rstd,
                       ConstTensorView dy, TensorView dx) override {
    const KernelScope scope = Begin();
    const int64_t d = x.dim(1);
    CheckTensor(x, DType::kF32, {x.dim(0), d}, "x");
    CheckTensor(weight, DType::kF32, {d}, "weight");
    CheckTensor(rstd, DType::kF32, {x.dim(0)}, "rstd");
    CheckTensor(dy, compute_type(), x.shape, "dy");
    CheckTensor(dx, DType::kF32, x.shape, "dx");
    ForRows(x.dim(0), [&](int64_t row) {
      kernels().rms_norm_backward(x.as<const float>() + row * d, weight.as<const float>(),
                                  rstd.as<const float>()[row], ElementAt(dy, row, 0),
                                  dx.as<float>() + row * d, d);
    });
  }

  void AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) override {
    const KernelScope scope = Begin();
    CheckTensor(x, DType::kF32, out.shape, "x");
    CheckTensor(y, compute_type(), out.shape, "y");
    CheckTensor(out, DType::kF32, out.shape, "out");
    context_.ForBlocks(out.elements(), kElementBlock, [&](int64_t begin, int64_t end) {
      kernels().add_wide(x.as<const float>() + begin, ElementAt(y, begin), out.as<float>() + begin,
                         end - begin);
    });
  }

  void Round(ConstTensorView x, TensorView y) override {
    const KernelScope scope = Begin();
    CheckTensor(y, compute_type(), x.shape, "y");
    context_.ForBlocks(x.elements(), kElementBlock, [&](int64_t begin, int64_t end) {
      kernels().round(x.as<const float>() + begin, ElementAt(y, begin), end - begin);
    });
  }

  void Rope(TensorView x, int64_t heads, ConstTensorView positions, ConstTensorView cosines,
            ConstTensorView sines, bool inverse) override {
    const KernelScope scope = Begin();
    const int64_t half = cosines.dim(1);
    CheckTensor(x, compute_type(), {positions.dim(0), heads * 2 * half}, "x");
    CheckTensor(sines, DType::kF32, cosines.shape, "sines");
    const int32_t* position = positions.as<const int32_t>();
    ForRows(x.dim(0), [&](int64_t row) {
      CHECK(position[row] >= 0 && position[row] < cosines.dim(0))
          << "position is " << position[row];
      kernels().rope(ElementAt(x, row, 0), heads, 2 * half,
                     cosines.as<const float>() + position[row] * half,
                     sines.as<const float>() + position[row] * half, inverse ? -1.0f : 1.0f);
    });
  }

  void AttentionForward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                        ConstTensorView q, ConstTensorView k, ConstTensorView v, TensorView out,
                        TensorView lse, ProductPath path) override {
    const KernelScope scope = Begin();
    AttendForward(context_, {shape, spans, q, k, v}, out, lse, path);
  }

  void AttentionBackward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                         ConstTensorView q, ConstTensorView k, ConstTensorView v,
                         ConstTensorView out, ConstTensorView lse, ConstTensorView dout,
                         TensorView dq, TensorView dk, TensorView dv) override {
    const KernelScope scope = Begin();
    AttendBackward(context_, {shape, spans, q, k, v}, out, lse, dout, dq, dk, dv);
  }

  void SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) override {
    const KernelScope scope = Begin();
    CheckTensor(gate, compute_type(), out.shape, "gate");
    CheckTensor(up, compute_type(), out.shape, "up");
    CheckTensor(out, compute_type(), out.shape, "out");
    context_.ForBlocks(out.elements(), kElementBlock, [&](int64_t begin, int64_t end) {
      kernels().swiglu_forward(ElementAt(gate, begin), ElementAt(up, begin), ElementAt(out, begin),
                               end - begin);
    });
  }

  void SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                      TensorView dgate, TensorView dup) override {
    const KernelScope scope = Begin();
    CheckTensor(gate, compute_type(), dout.shape, "gate");
    CheckTensor(up, compute_type(), dout.shape, "up");
    CheckTensor(dout, compute_type(), dout.shape, "dout");
    CheckTensor(dgate, compute_type(), dout.shape, "dgate");
    CheckTensor(dup, compute_type(), dout.shape, "dup");
    context_.ForBlocks(dout.elements(), kElementBlock, [&](int64_t begin, int64_t end) {
      kernels().swiglu_backward(ElementAt(gate, begin), ElementAt(up, begin),
                                ElementAt(dout, begin), ElementAt(dgate, begin),
                                ElementAt(dup, begin), end - begin);
    });
  }

  void GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    const KernelScope scope = Begin();
    CheckTensor(out, compute_type(), {rows.dim(0), x.dim(1)}, "out");
    const int32_t* row = rows.as<const int32_t>();
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      CHECK(row[i] >= 0 && row[i] < x.dim(0)) << "row is " << row[i];
      std::memcpy(ElementAt(out, i, 0), ElementAt(x, row[i], 0), x.dim(1) * SizeOf(x.dtype));
    }
  }

  void ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    const KernelScope scope = Begin();
    CheckTensor(x, compute_type(), {rows.dim(0), out.dim(1)}, "x");
    CheckTensor(out, compute_type(), {out.dim(0), out.dim(1)}, "out");
    const int32_t* row = rows.as<const int32_t>();
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      CHECK(row[i] >= 0 && row[i] < out.dim(0)) << "row is " << row[i];
      std::memcpy(ElementAt(out, row[i], 0), ElementAt(x, i, 0), x.dim(1) * SizeOf(x.dtype));
    }
  }

  void CrossEntropy(const FrozenLinear& output, ConstTensorView x, ConstTensorView labels,
                    ConstTensorView weights, TensorView losses, TensorView dx) override {
    const KernelScope scope = Begin();
    const int64_t rows = x.dim(0);
    CheckTensor(x, compute_type(), {rows, output.k()}, "x");
    CheckTensor(labels, DType::kI32, {rows}, "labels");
    CheckTensor(weights, DType::kF32, {rows}, "weights");
    CheckTensor(losses, DType::kF32, {rows}, "losses");
    if (dx.data != nullptr) CheckTensor(dx, compute_type(), x.shape, "dx");
    CrossEntropyInTiles(context_, WeightOf(output), x, labels, weights, losses, dx);
  }

  void Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
              ProductPath path) override {
    const KernelScope scope = Begin();
    CheckTensor(x, compute_type(), {x.dim(0), output.k()}, "x");
    CheckTensor(logits, DType::kF32, {x.dim(0), output.n()}, "logits");
    if (path == ProductPath::kDecode) {
      LogitsForDecoding(context_, WeightOf(output), x, logits);
    } else {
      LogitsInPanels(context_, WeightOf(output), x, logits);
    }
  }

  void ArgMax(ConstTensorView x, TensorView places) override {
    const int64_t columns = x.dim(1);
    CheckTensor(x, DType::kF32, {x.dim(0), columns}, "x");
    CheckTensor(places, DType::kI32, {x.dim(0)}, "places");
    context_.ForBlocks(x.dim(0), 1, [&](int64_t row, int64_t) {
      places.as<int32_t>()[row] = trainer::ArgMax<float>(
          absl::MakeConstSpan(x.as<const float>() + row * columns, static_cast<size_t>(columns)));
    });
  }

  double SumOfSquares(ConstTensorView x) override {
    const KernelScope scope = Begin();
    std::vector<double> sums(CeilDiv(x.elements(), kSumBlock));
    context_.ForBlocks(x.elements(), kSumBlock, [&](int64_t begin, int64_t end) {
      sums[begin / kSumBlock] = kernels().sum_of_squares(x.as<const float>() + begin, end - begin);
    });
    double sum = 0;
    for (const double block : sums) sum += block;
    return sum;
  }

  void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
             TensorView m, TensorView v) override {
    const KernelScope scope = Begin();
    CheckTensor(gradient, DType::kF32, parameter.shape, "gradient");
    CheckTensor(m, DType::kF32, parameter.shape, "m");
    CheckTensor(v, DType::kF32, parameter.shape, "v");
    const AdamWScalars scalars = ScalarsOf(settings);
    context_.ForBlocks(parameter.elements(), kElementBlock, [&](int64_t begin, int64_t end) {
      kernels().adamw(scalars, gradient.as<const float>() + begin, parameter.as<float>() + begin,
                      m.as<float>() + begin, v.as<float>() + begin, end - begin);
    });
  }

  void Fill(TensorView x, double value) override {
    const KernelScope scope = Begin();
    if (x.dtype == DType::kBF16) {
      std::fill_n(x.as<BFloat16>(), x.elements(), BFloat16(static_cast<float>(value)));
    } else {
      std::fill_n(x.as<float>(), x.elements(), static_cast<float>(value));
    }
  }

  void Copy(ConstTensorView from, TensorView to) override {
    CHECK(from.dtype == to.dtype && from.elements() == to.elements())
        << NameOf(from.dtype) << " " << ShapeText(from.shape) << " to " << NameOf(to.dtype) << " "
        << ShapeText(to.shape);
    std::memmove(to.data, from.data, to.bytes());
  }

  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  // Operations come one after the other, so the largest of each counts.
  ScratchNeed NeedOf(const PassShape& pass) const {
    // Norms, sums of squares and the like.
    constexpr int64_t kOthers = int64_t{64} << 10;
    ScratchNeed most = {kOthers, kOthers};
    for (const ScratchNeed& need :
         {LinearScratch(compute_type(), context_.pool->threads(), pass), AttentionScratch(pass),
          CrossEntropyScratch(compute_type(), pass.labels, pass.vocabulary, pass.width)}) {
      most.shared = std::max(most.shared, need.shared + kOthers);
      most.worker = std::max(most.worker, need.worker + kOthers);
    }
    return most;
  }

  const KernelSet& kernels() const { return context_.kernels; }

  KernelScope Begin() {
    context_.Begin();
    return KernelScope();
  }

  void ForRows(int64_t rows, absl::FunctionRef<void(int64_t row)> body) {
    context_.ForBlocks(rows, kRowBlock, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  static bool HasAdapters(absl::Span<const Segment> segments) {
    for (const Segment& segment : segments) {
      if (segment.hidden_width() > 0) return true;
    }
    return false;
  }

  // Segments add to their adapters' gradients at the same time.
  static void CheckAdapterGradients(absl::Span<const Segment> segments) {
    std::vector<const void*> seen;
    for (const Segment& segment : segments) {
      for (const LoraPair* pair : segment.adapters) {
        if (pair == nullptr) continue;
        CheckTensor(pair->da, DType::kF32, pair->a.shape, "da");
        CheckTensor(pair->db, DType::kF32, pair->b.shape, "db");
        CHECK(pair->da.data != nullptr && pair->db.data != nullptr);
        seen.push_back(pair->da.data);
      }
    }
    std::sort(seen.begin(), seen.end());
    CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end())
        << "two adapters share a gradient";
  }

  CpuContext context_;
  int64_t reserved_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackendWithKernels(const CpuOptions& options,
                                                                  const KernelSet& kernels) {
  DW_ASSIGN_OR_RETURN(auto pool, ThreadPool::Create(options.threads, options.cores));
  auto products = std::make_unique<Products>(options.compute_type, pool->threads(), kernels);
  return std::make_unique<CpuBackend>(options.compute_type, std::move(pool), kernels,
                                      std::move(products));
}

CpuScratch ScratchOf(const Backend& cpu_backend) {
  const auto& backend = dynamic_cast<const CpuBackend&>(cpu_backend);
  return {backend.ScratchHeld(), backend.ScratchUnreserved()};
}

absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackend(const CpuOptions& options) {
  if (options.compute_type != DType::kF32 && options.compute_type != DType::kBF16) {
    return absl::InvalidArgumentError(absl::StrCat(
        "compute type of the cpu backend is ", NameOf(options.compute_type), ", want F32 or BF16"));
  }
  return NewCpuBackendWithKernels(options, *SupportedKernels(options.compute_type).back());
}

}  // namespace deltaworks::trainer
