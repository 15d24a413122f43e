// How fast the cpu backend is beside what the machine can do, on the shapes of SmolLM2-135M (hidden
// 576, 9 heads of 64 over 3 kv heads, feed-forward 1536, vocabulary 49,152, 30 layers).
//
//   cpu_benchmark [threads] [bf16|f32]
//
// For products: GFLOP/s of the frozen weights' products (adapters' work is overhead), without and
// with an adapter of rank 8, beside the roof: oneDNN called plainly on one thread for the same
// shape, times the number of threads. Each layer has weights of its own, as in a model, so that
// caches do not flatter. Best of several repetitions, and with one thread its processor time rather
// than the wall's: the machine may be shared.

#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "glog/logging.h"
#include "trainer/backend/cpu/cpu_backend.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kLayers = 30;
constexpr int kRepetitions = 7;
constexpr int64_t kRank = 8;

int g_threads = 1;

double NowSeconds() {
  timespec now;
  clock_gettime(g_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double BestSeconds(const std::function<void()>& run) {
  double best = 1e30;
  for (int i = 0; i < kRepetitions; ++i) {
    const double begin = NowSeconds();
    run();
    best = std::min(best, NowSeconds() - begin);
  }
  return best;
}

class Tensors {
 public:
  explicit Tensors(Backend& backend) : backend_(backend) {}

  // Of small random numbers.
  TensorView New(DType dtype, std::vector<int64_t> shape, float scale = 1) {
    TensorView view = {nullptr, dtype, std::move(shape)};
    const int64_t elements = view.elements();
    auto buffer = backend_.Allocate(elements * SizeOf(dtype));
    CHECK(buffer.ok()) << buffer.status();
    view.data = (*buffer)->data();
    buffers_.push_back(*std::move(buffer));
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (int64_t i = 0; i < elements; ++i) {
      if (dtype == DType::kF32) {
        static_cast<float*>(view.data)[i] = uniform(random_);
      } else if (dtype == DType::kBF16) {
        static_cast<BFloat16*>(view.data)[i] = BFloat16(uniform(random_));
      }
    }
    return view;
  }

 private:
  Backend& backend_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  std::minstd_rand random_;
};

// oneDNN on one thread, x [rows,K] W^T and dy [rows,N] W, f32 results, weights in place.
double RoofGflops(DType type, int64_t rows, int64_t n, int64_t k, bool forward, Tensors& tensors) {
  const int64_t layers = n > 10000 ? 1 : kLayers;
  omp_set_num_threads(1);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto data_type =
      type == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  const int64_t in = forward ? k : n;
  const int64_t out = forward ? n : k;
  const dnnl::memory::desc a({rows, in}, data_type, dnnl::memory::dims{in, 1});
  const dnnl::memory::desc b({in, out}, data_type,
                             forward ? dnnl::memory::dims{1, k} : dnnl::memory::dims{k, 1});
  const dnnl::memory::desc c({rows, out}, dnnl::memory::data_type::f32, dnnl::memory::dims{out, 1});
  const dnnl::matmul product(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, c), engine));
  dnnl::memory x(a, engine, tensors.New(type, {rows, in}).data);
  dnnl::memory y(c, engine, tensors.New(DType::kF32, {rows, out}).data);
  std::vector<dnnl::memory> weights;
  for (int64_t i = 0; i < layers; ++i) {
    weights.emplace_back(b, engine, tensors.New(type, {n, k}).data);
  }
  const double seconds = BestSeconds([&] {
    for (dnnl::memory& weight : weights) {
      product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, y}});
    }
  });
  return 2.0 * rows * n * k * layers / seconds / 1e9;
}

struct Group {
  const char* name;
  int64_t k;
  std::vector<int64_t> n;
};

const Group kGroups[] = {{"q k v", 576, {576, 192, 192}},
                         {"o", 576, {576}},
                         {"gate up", 576, {1536, 1536}},
                         {"down", 1536, {576}}};

// One group of one layer with its adapters.
struct Layer {
  Layer(Backend& backend, Tensors& tensors, const Group& group) {
    const DType type = backend.compute_type();
    for (const int64_t n : group.n) {
      linears.push_back(*backend.Pack(tensors.New(type, {n, group.k})));
      pointers.push_back(linears.back().get());
      pairs.push_back({tensors.New(type, {kRank, group.k}), tensors.New(type, {n, kRank}), 2.0f,
                       tensors.New(DType::kF32, {kRank, group.k}),
                       tensors.New(DType::kF32, {n, kRank})});
    }
  }
  std::vector<std::unique_ptr<FrozenLinear>> linears;
  std::vector<const FrozenLinear*> pointers;
  std::vector<LoraPair> pairs;
};

// Segments of 128 tokens each, or of all; with the same adapter sizes.
std::vector<Segment> OneSegment(const Layer& layer, int64_t rows, bool adapted) {
  Segment segment;
  segment.row_end = rows;
  for (const LoraPair& pair : layer.pairs) segment.adapters.push_back(adapted ? &pair : nullptr);
  return {segment};
}

struct Totals {
  double plain_seconds = 0, adapted_seconds = 0, roof_seconds = 0;
};

void BenchmarkGroup(Backend& backend, int threads, const Group& group, int64_t rows,
                    Totals* totals) {
  Tensors tensors(backend);
  const DType type = backend.compute_type();
  std::vector<std::unique_ptr<Layer>> layers;
  for (int64_t i = 0; i < kLayers; ++i) {
    layers.push_back(std::make_unique<Layer>(backend, tensors, group));
  }
  const TensorView x = tensors.New(type, {rows, group.k});
  const TensorView dx = tensors.New(type, {rows, group.k});
  const int64_t width = kRank * static_cast<int64_t>(group.n.size());
  const TensorView hidden = tensors.New(type, {rows, width});
  const TensorView dhidden = tensors.New(type, {rows, width});
  std::vector<TensorView> y;
  std::vector<ConstTensorView> dy;
  double flops = 0;
  for (const int64_t n : group.n) {
    y.push_back(tensors.New(type, {rows, n}));
    dy.push_back(y.back());
    flops += 2.0 * rows * n * group.k * kLayers;
  }
  for (const bool forward : {true, false}) {
    double seconds[2];
    for (const bool adapted : {false, true}) {
      seconds[adapted] = BestSeconds([&] {
        for (const auto& layer : layers) {
          const std::vector<Segment> segments = OneSegment(*layer, rows, adapted);
          if (forward) {
            backend.LinearGroupForward(layer->pointers, segments, x, hidden, y,
                                       ProductPath::kBatch);
          } else {
            backend.LinearGroupBackward(layer->pointers, segments, x, hidden, dy, dhidden, dx);
          }
        }
      });
    }
    double roof_seconds = 0;
    for (const int64_t n : group.n) {
      const double roof = RoofGflops(type, rows, n, group.k, forward, tensors);
      roof_seconds += 2.0 * rows * n * group.k * kLayers / (roof * 1e9) / threads;
    }
    std::printf(
        "%-9s %-8s %5ld rows  plain %6.1f  rank 8 %6.1f  roof %6.1f GFLOP/s  (%3.0f %%, %3.0f "
        "%%)\n",
        group.name, forward ? "forward" : "backward", static_cast<long>(rows),
        flops / seconds[0] / 1e9, flops / seconds[1] / 1e9, flops / roof_seconds / 1e9,
        100 * roof_seconds / seconds[0], 100 * roof_seconds / seconds[1]);
    totals->plain_seconds += seconds[0];
    totals->adapted_seconds += seconds[1];
    totals->roof_seconds += roof_seconds;
  }
}

void BenchmarkCrossEntropy(Backend& backend, int threads, int64_t rows) {
  Tensors tensors(backend);
  const DType type = backend.compute_type();
  const int64_t d = 576, vocabulary = 49152;
  const auto linear = *backend.PackTable(tensors.New(type, {vocabulary, d}, 0.1f));
  const TensorView x = tensors.New(type, {rows, d}), dx = tensors.New(type, {rows, d});
  const TensorView labels = tensors.New(DType::kI32, {rows});
  const TensorView weights = tensors.New(DType::kF32, {rows});
  const TensorView losses = tensors.New(DType::kF32, {rows});
  const double seconds =
      BestSeconds([&] { backend.CrossEntropy(*linear, x, labels, weights, losses, dx); });
  const double roof = threads * RoofGflops(type, rows, vocabulary, d, true, tensors);
  const double gflops = 4.0 * rows * vocabulary * d / seconds / 1e9;
  std::printf("%-18s %5ld rows  %6.1f GFLOP/s  roof %6.1f  (%3.0f %%)  %.2f ms\n", "cross entropy",
              static_cast<long>(rows), gflops, roof, 100 * gflops / roof, seconds * 1e3);
}

void BenchmarkAttention(Backend& backend, int64_t rows, int64_t document) {
  Tensors tensors(backend);
  const DType type = backend.compute_type();
  const AttentionShape shape = {9, 3, 64, 0.125f, true};
  std::vector<AttentionSpan> spans;
  for (int64_t i = 0; i < rows; i += document) {
    spans.push_back({i, i + document, i, i + document});
  }
  const TensorView q = tensors.New(type, {rows, 576}), k = tensors.New(type, {rows, 192});
  const TensorView v = tensors.New(type, {rows, 192}), out = tensors.New(type, {rows, 576});
  const TensorView lse = tensors.New(DType::kF32, {rows, 9}), dout = tensors.New(type, {rows, 576});
  const TensorView dq = tensors.New(type, {rows, 576}), dk = tensors.New(type, {rows, 192});
  const TensorView dv = tensors.New(type, {rows, 192});
  const double forward = BestSeconds(
      [&] { backend.AttentionForward(shape, spans, q, k, v, out, lse, ProductPath::kBatch); });
  const double backward = BestSeconds(
      [&] { backend.AttentionBackward(shape, spans, q, k, v, out, lse, dout, dq, dk, dv); });
  // What causality leaves: half of the pairs.
  const double flops = 2.0 * rows * document * 64 * 9;
  std::printf(
      "attention          %5ld rows, documents of %4ld  forward %6.1f GFLOP/s, %6.2f us/row"
      "  backward %6.1f GFLOP/s, %6.2f us/row\n",
      static_cast<long>(rows), static_cast<long>(document), flops / forward / 1e9,
      forward / rows * 1e6, 2.5 * flops / backward / 1e9, backward / rows * 1e6);
}

void BenchmarkRows(Backend& backend, int64_t rows) {
  Tensors tensors(backend);
  const DType type = backend.compute_type();
  const TensorView x = tensors.New(DType::kF32, {rows, 576});
  const TensorView sum = tensors.New(DType::kF32, {rows, 576});
  const TensorView weight = tensors.New(DType::kF32, {576}), y = tensors.New(type, {rows, 576});
  const TensorView rstd = tensors.New(DType::kF32, {rows});
  const TensorView gate = tensors.New(type, {rows, 1536}), up = tensors.New(type, {rows, 1536});
  const TensorView out = tensors.New(type, {rows, 1536}), dup = tensors.New(type, {rows, 1536});
  const TensorView positions = tensors.New(DType::kI32, {rows});
  const TensorView angles = tensors.New(DType::kF32, {rows, 32});
  const auto report = [&](const char* name, double bytes, const std::function<void()>& run) {
    const double seconds = BestSeconds(run);
    std::printf("%-18s %5ld rows  %6.2f us/row  %6.1f GB/s\n", name, static_cast<long>(rows),
                seconds / rows * 1e6, bytes / seconds / 1e9);
  };
  const double wide = rows * 576.0 * 4, compute = rows * 576.0 * SizeOf(type);
  report("norm forward", wide + compute, [&] { backend.RmsNormForward(x, weight, 1e-5, y, rstd); });
  report("norm backward", 3 * wide + compute,
         [&] { backend.RmsNormBackward(x, weight, rstd, y, sum); });
  report("residual", 2 * wide + compute, [&] { backend.AddResidual(x, y, sum); });
  report("rope", 2 * compute, [&] { backend.Rope(y, 9, positions, angles, angles, false); });
  report("swiglu forward", 3 * compute * 1536 / 576, [&] { backend.SwigluForward(gate, up, out); });
  report("swiglu backward", 5 * compute * 1536 / 576,
         [&] { backend.SwigluBackward(gate, up, out, out, dup); });
}

void BenchmarkDecoding(Backend& backend, int64_t rows) {
  double bytes = 0, seconds = 0;
  for (const Group& group : kGroups) {
    Tensors tensors(backend);
    const DType type = backend.compute_type();
    std::vector<std::unique_ptr<Layer>> layers;
    for (int64_t i = 0; i < kLayers; ++i) {
      layers.push_back(std::make_unique<Layer>(backend, tensors, group));
    }
    const TensorView x = tensors.New(type, {rows, group.k});
    const TensorView hidden = tensors.New(type, {rows, kRank * 3});
    std::vector<TensorView> y;
    for (const int64_t n : group.n) {
      y.push_back(tensors.New(type, {rows, n}));
      bytes += static_cast<double>(n * group.k * kLayers * SizeOf(type));
    }
    seconds += BestSeconds([&] {
      for (const auto& layer : layers) {
        backend.LinearGroupForward(layer->pointers, OneSegment(*layer, rows, true), x, hidden, y,
                                   ProductPath::kDecode);
      }
    });
  }
  std::printf("decoding           %5ld rows  all linears %6.2f ms  %6.1f GB/s\n",
              static_cast<long>(rows), seconds * 1e3, bytes / seconds / 1e9);
}

int Run(int threads, DType type) {
  g_threads = threads;
  CpuOptions options;
  options.compute_type = type;
  options.threads = threads;
  auto backend = NewCpuBackend(options);
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", backend.status().ToString().c_str());
    return 1;
  }
  std::printf("%s, %d threads\n", (*backend)->numerics_class().c_str(), threads);
  for (const int64_t rows : {128, 1024}) {
    Totals totals;
    for (const Group& group : kGroups) BenchmarkGroup(**backend, threads, group, rows, &totals);
    std::printf(
        "all linears of 30 layers: plain %.3f, rank 8 %.3f, roof %.3f ms a row"
        " (%.0f %%, %.0f %%)\n",
        totals.plain_seconds / rows * 1e3, totals.adapted_seconds / rows * 1e3,
        totals.roof_seconds / rows * 1e3, 100 * totals.roof_seconds / totals.plain_seconds,
        100 * totals.roof_seconds / totals.adapted_seconds);
    BenchmarkCrossEntropy(**backend, threads, rows);
    BenchmarkAttention(**backend, rows, 128);
    BenchmarkRows(**backend, rows);
  }
  BenchmarkAttention(**backend, 1024, 1024);
  for (const int64_t rows : {1, 4, 16}) BenchmarkDecoding(**backend, rows);
  return 0;
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  int threads = 1;
  const std::string type = argc > 2 ? argv[2] : "bf16";
  if (argc > 3 || (argc > 1 && !absl::SimpleAtoi(argv[1], &threads)) ||
      (type != "bf16" && type != "f32")) {
    std::fprintf(stderr, "usage: cpu_benchmark [threads] [bf16|f32]\n");
    return 2;
  }
  return deltaworks::trainer::Run(threads, type == "bf16" ? deltaworks::trainer::DType::kBF16
                                                          : deltaworks::trainer::DType::kF32);
}
