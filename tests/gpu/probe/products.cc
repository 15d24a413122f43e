#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/gpu/probe/gpu.h"
#include "tests/gpu/probe/matmul.h"
#include "tests/gpu/probe/sections.h"

namespace deltaworks::gpu_probe {
namespace {

constexpr int64_t kWeightCopies = 3;  // So that L2 does not keep a weight between two runs.

const char* TypeName(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_16BF:
      return "bf16";
    case CUDA_R_32F:
      return "f32";
    default:
      return "e4m3";
  }
}

int64_t ElementBytes(cudaDataType_t type) {
  return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 1;
}

// Input of a shape up to t_max rows, random, with scales if the type needs them.
class Operands {
 public:
  Operands(const MatmulShape& shape, int64_t t_max)
      : shape_(shape),
        x_row_bytes_(Or(shape.x_stride, shape.k) * ElementBytes(shape.input)),
        w_bytes_((shape.form == Form::kBackward ? shape.k * Or(shape.w_stride, shape.n)
                                                : shape.n * Or(shape.w_stride, shape.k)) *
                 ElementBytes(shape.input)),
        x_(t_max * x_row_bytes_),
        copied_x_(t_max * x_row_bytes_),
        w_(w_bytes_ * kWeightCopies),
        x_scales_(4 * t_max * (shape.k / 128 + 1)),
        copied_scales_(x_scales_.bytes()),
        w_scales_(4 * shape.n * (shape.k / 128 + 1)) {
    Fill(x_.data(), t_max, Or(shape.x_stride, shape.k), 1, 11, x_scales_.as<float>());
    for (int64_t copy = 0; copy < kWeightCopies; ++copy) {
      Fill(w(copy), w_bytes_ / ElementBytes(shape.input) / shape.k, shape.k, 0.02f, 12,
           w_scales_.as<float>());  // Copies are equal.
    }
    if (shape.scaling != Scaling::kOuter) {
      FillConstantF32(x_scales_.as<float>(), x_scales_.bytes() / 4, 0x1p-7f);
      FillConstantF32(w_scales_.as<float>(), w_scales_.bytes() / 4, 0x1p-12f);
      FillConstantF32(copied_scales_.as<float>(), copied_scales_.bytes() / 4, 0x1p-7f);
    }
  }

  void* x() const { return x_.data(); }
  const float* x_scales() const { return x_scales_.as<float>(); }
  void* w(int64_t copy) const { return w_.as<char>() + copy % kWeightCopies * w_bytes_; }

  // Rows [first, first + t) at the beginning of a tensor of their own: pointers stay aligned.
  void CopyRows(int64_t first, int64_t t) const {
    PROBE_CHECK(cudaMemcpyAsync(copied_x_.data(), x_.as<char>() + first * x_row_bytes_,
                                static_cast<size_t>(t * x_row_bytes_), cudaMemcpyDeviceToDevice,
                                Stream()));
    if (shape_.scaling == Scaling::kOuter)
      PROBE_CHECK(cudaMemcpyAsync(copied_scales_.data(), x_scales_.as<float>() + first,
                                  static_cast<size_t>(t) * 4, cudaMemcpyDeviceToDevice, Stream()));
  }
  void* copied_x() const { return copied_x_.data(); }
  const float* copied_scales() const { return copied_scales_.as<float>(); }

  const float* w_scales() const { return w_scales_.as<float>(); }

 private:
  static int64_t Or(int64_t stride, int64_t dense) { return stride == 0 ? dense : stride; }

  void Fill(void* data, int64_t rows, int64_t columns, float deviation, uint64_t seed,
            float* scales) {
    switch (shape_.input) {
      case CUDA_R_16BF:
        return FillNormalBf16(data, rows * columns, deviation, seed);
      case CUDA_R_32F:
        return FillNormalF32(static_cast<float*>(data), rows * columns, deviation, seed);
      default: {
        const Buffer values(rows * columns * 2);
        FillNormalBf16(values.data(), rows * columns, deviation, seed);
        QuantizeRowsE4m3(values.data(), rows, columns, data, scales);
        PROBE_CHECK(cudaStreamSynchronize(Stream()));
      }
    }
  }

  MatmulShape shape_;
  int64_t x_row_bytes_;
  int64_t w_bytes_;
  Buffer x_;
  Buffer copied_x_;
  Buffer w_;
  Buffer x_scales_;
  Buffer copied_scales_;
  Buffer w_scales_;
};

// ---------------------------------------------------------------------------------- peak

double Teraflops(const Matmul& matmul, int64_t t, double microseconds) {
  return matmul.Flops(t) / microseconds / 1e6;
}

void Peak(const char* name, const MatmulShape& shape) {
  const int64_t t = shape.n;
  Operands operands(shape, t);
  const Buffer y(t * shape.n * 4);
  Matmul matmul(shape);
  matmul.SetScales(operands.x_scales(), operands.w_scales());
  double best = 0;
  std::string how = "refused";
  for (const Algorithm& algorithm : matmul.Choices(t, 4, /*any=*/true)) {
    if (!matmul.Run(algorithm, t, operands.x(), operands.w(0), y.data(), Stream())) continue;
    const double rate =
        Teraflops(matmul, t, Microseconds([&](int i) {
                    matmul.Run(algorithm, t, operands.x(), operands.w(i), y.data(), Stream());
                  }));
    if (rate <= best) continue;
    best = rate;
    how = algorithm.Key();
  }
  std::printf("%-44s %6.0f TFLOP/s  %s\n", name, best, how.c_str());
  std::fprintf(Records(),
               "{\"ask\":\"peak\",\"what\":\"%s\",\"tflops\":%.1f,\"algorithm\":\"%s\"}\n", name,
               best, how.c_str());
}

// ---------------------------------------------------------------------------------- rows

struct Known {
  const char* name;
  MatmulShape shape;
  int64_t t_max;
};

constexpr int64_t kRowCounts[] = {1,   2,   7,   16,  33,   64,   100,  128,  129,
                                  160, 256, 257, 513, 1000, 1024, 1537, 2047, 4095};
constexpr int64_t kOffsets[] = {1, 3, 64, 77, 129};
constexpr int64_t kTimedRows[] = {16, 128, 512, 1024, 2048, 4096, 8192};

struct Candidate {
  Algorithm algorithm;
  uint64_t digest = 0;
  int refused = 0;    // Row counts that the library cannot do this way.
  std::string moved;  // The first place where a row's bits changed.
  std::map<int64_t, double> microseconds;
};

std::vector<Candidate> Collect(const Matmul& matmul, int64_t t_max) {
  std::vector<Candidate> candidates;
  for (const bool any : {false, true}) {
    for (const int64_t t : kTimedRows) {
      if (t > t_max) continue;
      for (const Algorithm& algorithm : matmul.Choices(t, any ? 2 : 8, any)) {
        const auto known = std::find_if(
            candidates.begin(), candidates.end(),
            [&](const Candidate& candidate) { return candidate.algorithm == algorithm; });
        if (known == candidates.end()) candidates.push_back({algorithm});
      }
    }
  }
  return candidates;
}

// Runs at other numbers of rows and from other first rows; each row must keep its bits.
void Check(Matmul& matmul, const Operands& operands, int64_t t_max, const Buffer& whole,
           const Buffer& part, Candidate& candidate) {
  const int64_t row_bytes = matmul.shape().n * matmul.output_bytes();
  const auto run = [&](int64_t first, int64_t t, const Buffer& y) {
    PROBE_CHECK(cudaMemsetAsync(y.data(), matmul.shape().accumulate ? 0 : 0xff,
                                static_cast<size_t>(t * row_bytes), Stream()));
    if (first == 0) {
      matmul.SetScales(operands.x_scales(), operands.w_scales());
    } else {
      operands.CopyRows(first, t);
      matmul.SetScales(operands.copied_scales(), operands.w_scales());
    }
    return matmul.Supports(candidate.algorithm, t) &&
           matmul.Run(candidate.algorithm, t, first == 0 ? operands.x() : operands.copied_x(),
                      operands.w(0), y.data(), Stream());
  };
  if (!run(0, t_max, whole)) {
    candidate.refused = -1;
    return;
  }
  candidate.digest = Digest(whole.data(), t_max * row_bytes);
  const auto compare = [&](int64_t first, int64_t t) {
    if (!candidate.moved.empty() || first + t > t_max) return;
    if (!run(first, t, part)) {
      ++candidate.refused;
      return;
    }
    const int64_t words =
        DifferentWords(whole.as<char>() + first * row_bytes, part.data(), t * row_bytes);
    if (words == 0) return;
    candidate.moved = std::to_string(t) + " rows from " + std::to_string(first) + ": " +
                      std::to_string(words) + " words";
  };
  for (const int64_t t : kRowCounts) compare(0, t);
  for (const int64_t first : kOffsets) {
    compare(first, 128);
    compare(first, 1000);
    compare(first, t_max - first);
  }
  for (int again = 0; again < 3; ++again) compare(0, t_max);
}

void Time(const Matmul& matmul, const Operands& operands, int64_t t_max, const Buffer& y,
          Candidate& candidate) {
  for (const int64_t t : kTimedRows) {
    if (t > t_max || !matmul.Supports(candidate.algorithm, t)) continue;
    candidate.microseconds[t] = Microseconds([&](int i) {
      matmul.Run(candidate.algorithm, t, operands.x(), operands.w(i), y.data(), Stream());
    });
  }
}

void Print(const Known& known, const Matmul& matmul, const std::vector<Candidate>& candidates) {
  // The class of bytes that the fastest sound candidate at the largest number of rows belongs to.
  const Candidate* chosen = nullptr;
  std::map<uint64_t, int> classes;
  int moved = 0;
  int unsound = 0;  // Refused somewhere.
  for (const Candidate& candidate : candidates) {
    moved += !candidate.moved.empty();
    unsound += candidate.refused != 0;
    if (!candidate.moved.empty() || candidate.microseconds.empty()) continue;
    ++classes[candidate.digest];
    if (candidate.refused != 0) continue;
    if (chosen == nullptr ||
        candidate.microseconds.rbegin()->second < chosen->microseconds.rbegin()->second)
      chosen = &candidate;
  }
  std::printf(
      "%-22s %6lld <- %5lld %s %s->%s%s: %zu algorithms, rows move in %d, %d refuse some, "
      "%zu classes of bytes\n",
      known.name, static_cast<long long>(known.shape.n), static_cast<long long>(known.shape.k),
      known.shape.form == Form::kBackward ? "dX" : "y ", TypeName(known.shape.input),
      TypeName(known.shape.output), known.shape.accumulate ? " +=" : "", candidates.size(), moved,
      unsound, classes.size());
  for (const Candidate& candidate : candidates) {
    std::fprintf(Records(),
                 "{\"ask\":\"rows\",\"name\":\"%s\",\"n\":%lld,\"k\":%lld,\"backward\":%d,"
                 "\"input\":\"%s\",\"output\":\"%s\",\"accumulate\":%d,\"cublaslt\":%lld,"
                 "\"algorithm\":\"%s\",\"workspace\":%zu,\"digest\":\"%016llx\",\"refused\":%d,"
                 "\"moved\":\"%s\",\"us\":{",
                 known.name, static_cast<long long>(known.shape.n),
                 static_cast<long long>(known.shape.k), known.shape.form == Form::kBackward,
                 TypeName(known.shape.input), TypeName(known.shape.output), known.shape.accumulate,
                 static_cast<long long>(CublasLtVersion()), candidate.algorithm.Key().c_str(),
                 candidate.algorithm.workspace_bytes,
                 static_cast<unsigned long long>(candidate.digest), candidate.refused,
                 candidate.moved.c_str());
    const char* comma = "";
    for (const auto& [t, microseconds] : candidate.microseconds) {
      std::fprintf(Records(), "%s\"%lld\":%.1f", comma, static_cast<long long>(t), microseconds);
      comma = ",";
    }
    std::fprintf(Records(), "}}\n");
  }
  if (chosen == nullptr) {
    std::printf("    none is sound\n");
    return;
  }
  std::printf("    %s, digest %016llx\n    rows: one algorithm / its class / free, TFLOP/s:",
              chosen->algorithm.Key().c_str(), static_cast<unsigned long long>(chosen->digest));
  for (const auto& [t, alone] : chosen->microseconds) {
    double free = alone;
    double same = alone;
    for (const Candidate& candidate : candidates) {
      const auto time = candidate.microseconds.find(t);
      if (time == candidate.microseconds.end()) continue;
      free = std::min(free, time->second);
      if (candidate.moved.empty() && candidate.digest == chosen->digest)
        same = std::min(same, time->second);
    }
    std::printf("  %lld: %.0f/%.0f/%.0f", static_cast<long long>(t), Teraflops(matmul, t, alone),
                Teraflops(matmul, t, same), Teraflops(matmul, t, free));
  }
  std::printf("\n");
  std::fflush(nullptr);
}

void Rows(const Known& known) {
  Matmul matmul(known.shape);
  const Operands operands(known.shape, known.t_max);
  matmul.SetScales(operands.x_scales(), operands.w_scales());
  const int64_t bytes = known.t_max * known.shape.n * matmul.output_bytes();
  const Buffer whole(bytes);
  const Buffer part(bytes);
  std::vector<Candidate> candidates = Collect(matmul, known.t_max);
  for (Candidate& candidate : candidates) {
    Check(matmul, operands, known.t_max, whole, part, candidate);
    matmul.SetScales(operands.x_scales(), operands.w_scales());
    if (candidate.refused >= 0) Time(matmul, operands, known.t_max, part, candidate);
  }
  Print(known, matmul, candidates);
}

MatmulShape Forward(int64_t n, int64_t k) { return {.n = n, .k = k}; }

// The same weight [n, k], by which dy [T, n] becomes dx [T, k].
MatmulShape Backward(int64_t n, int64_t k) { return {.n = k, .k = n, .form = Form::kBackward}; }

MatmulShape AddedTo(MatmulShape shape) {
  shape.output = CUDA_R_32F;
  shape.accumulate = true;
  return shape;
}

MatmulShape InF32(MatmulShape shape) {
  shape.input = shape.output = CUDA_R_32F;
  return shape;
}

MatmulShape InFp8(MatmulShape shape, Scaling scaling, bool fast) {
  shape.input = CUDA_R_8F_E4M3;
  shape.scaling = scaling;
  shape.fast_accumulation = fast;
  return shape;
}

// ------------------------------------------------------------------------------- columns

// Columns [first, first + count) of x keep their values, the others from k on become 0.
void KeepColumns(const Buffer& x, int64_t rows, int64_t stride, int64_t k, int64_t first,
                 int64_t count, const Buffer& s) {
  PROBE_CHECK(cudaMemset2DAsync(x.as<char>() + k * 2, static_cast<size_t>(stride * 2), 0,
                                static_cast<size_t>((stride - k) * 2), static_cast<size_t>(rows),
                                Stream()));
  if (count == 0) return;
  PROBE_CHECK(cudaMemcpy2DAsync(x.as<char>() + first * 2, static_cast<size_t>(stride * 2), s.data(),
                                static_cast<size_t>(count * 2), static_cast<size_t>(count * 2),
                                static_cast<size_t>(rows), cudaMemcpyDeviceToDevice, Stream()));
}

// In turn and in several rounds, since a card that gets warm gets slow: a width that is always the
// last would look worse than it is.
void TimeFurtherColumns(const MatmulShape& shape, const Buffer& x, const Buffer& w,
                        const Buffer& y) {
  constexpr int64_t kT = 4096;
  constexpr int kRounds = 7;
  constexpr int64_t kWidths[] = {0, 16, 64, 128, 192, 256};
  for (const cudaDataType_t output : {CUDA_R_16BF, CUDA_R_32F}) {
    for (const bool dense : {false, true}) {
      std::map<int64_t, std::vector<double>> times;
      std::map<int64_t, std::string> how;
      for (int round = 0; round < kRounds; ++round) {
        for (const int64_t width : kWidths) {
          MatmulShape wide = shape;
          wide.output = output;
          wide.k = shape.k + width;
          if (dense) wide.x_stride = wide.w_stride = 0;
          const Matmul matmul(wide);
          double best = 1e30;
          for (const Algorithm& algorithm : matmul.Choices(kT, 16, /*any=*/false)) {
            if (!matmul.Run(algorithm, kT, x.data(), w.data(), y.data(), Stream())) continue;
            const double time = Microseconds(
                [&](int) { matmul.Run(algorithm, kT, x.data(), w.data(), y.data(), Stream()); });
            if (time >= best) continue;
            best = time;
            how[width] = algorithm.Key();
          }
          times[width].push_back(best);
        }
      }
      std::printf("%lld <- %lld, 4,096 rows, %s, %s, us by further columns:",
                  static_cast<long long>(shape.n), static_cast<long long>(shape.k),
                  TypeName(output), dense ? "dense" : "room for 256");
      for (auto& [width, of_width] : times) {
        std::sort(of_width.begin(), of_width.end());
        std::printf(" +%lld: %.0f", static_cast<long long>(width), of_width[kRounds / 2]);
        std::fprintf(Records(),
                     "{\"ask\":\"columns\",\"n\":%lld,\"k\":%lld,\"output\":\"%s\",\"dense\":%d,"
                     "\"further\":%lld,\"us\":%.1f,\"algorithm\":\"%s\"}\n",
                     static_cast<long long>(shape.n), static_cast<long long>(shape.k),
                     TypeName(output), dense, static_cast<long long>(width), of_width[kRounds / 2],
                     how[width].c_str());
      }
      std::printf("\n");
    }
  }
}

void FurtherColumns(int64_t n, int64_t k) {
  constexpr int64_t kMost = 256;
  constexpr int64_t kRank = 8;
  constexpr int64_t kT = 4096;
  const int64_t stride = k + kMost;
  const Buffer x(kT * stride * 2);
  const Buffer w(n * stride * 2);
  const Buffer s(kT * kRank * 2);
  const Buffer b(n * kRank * 2);
  const Buffer first_result(kT * n * 4);
  const Buffer result(kT * n * 4);
  FillNormalBf16(x.data(), kT * stride, 1, 21);
  FillNormalBf16(w.data(), n * stride, 0.02f, 22);
  FillNormalBf16(s.data(), kT * kRank, 1, 23);
  FillNormalBf16(b.data(), n * kRank, 0.02f, 24);

  MatmulShape shape = {
      .n = n, .k = k, .output = CUDA_R_32F, .x_stride = stride, .w_stride = stride};
  const std::vector<Algorithm> choices = Matmul(shape).Choices(kT, 8, /*any=*/false);
  if (choices.empty()) {
    std::printf("%lld <- %lld: no algorithm\n", static_cast<long long>(n),
                static_cast<long long>(k));
    return;
  }
  // The adapter of rank 8 at several first columns of as many as `width` further ones.
  const auto place = [&](int64_t width, int64_t first, const Algorithm& algorithm,
                         const Buffer& y) {
    KeepColumns(x, kT, stride, k, k + first, kRank, s);
    FillNormalBf16(w.data(), n * stride, 0.02f, 22);  // Other adapters, met by zeros.
    PROBE_CHECK(cudaMemcpy2DAsync(w.as<char>() + (k + first) * 2, static_cast<size_t>(stride * 2),
                                  b.data(), kRank * 2, kRank * 2, static_cast<size_t>(n),
                                  cudaMemcpyDeviceToDevice, Stream()));
    MatmulShape wide = shape;
    wide.k = k + width;
    return Matmul(wide).Run(algorithm, kT, x.data(), w.data(), y.data(), Stream());
  };
  std::string places;
  for (const Algorithm& algorithm : choices) {
    if (!place(16, 0, algorithm, first_result)) continue;
    const int64_t cases[][2] = {{16, 8},  {64, 0},  {64, 1},  {64, 4},   {64, 8},
                                {64, 16}, {64, 40}, {256, 0}, {256, 200}};
    places = algorithm.Key() + ":";
    for (const auto& [width, first] : cases) {
      if (!place(width, first, algorithm, result)) {
        places += " refused";
        continue;
      }
      const int64_t words = DifferentWords(first_result.data(), result.data(), kT * n * 4);
      places +=
          " " + std::to_string(first) + "/" + std::to_string(width) + "=" + std::to_string(words);
    }
    std::printf("  %s\n", places.c_str());
    std::fprintf(Records(),
                 "{\"ask\":\"places\",\"n\":%lld,\"k\":%lld,\"words_that_differ\":\"%s\"}\n",
                 static_cast<long long>(n), static_cast<long long>(k), places.c_str());
  }
  TimeFurtherColumns(shape, x, w, result);
}

// ------------------------------------------------------------------------------ token sums

// dA [r, k] of one adapter: does it depend on the algorithm, does a tail of zeros change it, and
// what does it cost not to split the sum?
void TokenSum(int64_t k, int64_t r) {
  constexpr int64_t kMost = 8192;
  const MatmulShape shape = {
      .n = k, .k = r, .form = Form::kTokenSum, .output = CUDA_R_32F, .accumulate = true};
  const Matmul matmul(shape);
  const Buffer x(kMost * k * 2);
  const Buffer dh(kMost * r * 2);
  const Buffer y(r * k * 4);
  FillNormalBf16(x.data(), kMost * k, 1, 31);
  FillNormalBf16(dh.data(), kMost * r, 1, 32);
  const auto digest = [&](const Algorithm& algorithm, int64_t t) -> uint64_t {
    PROBE_CHECK(cudaMemsetAsync(y.data(), 0, static_cast<size_t>(y.bytes()), Stream()));
    if (!matmul.Supports(algorithm, t) ||
        !matmul.Run(algorithm, t, dh.data(), x.data(), y.data(), Stream()))
      return 0;
    return Digest(y.data(), y.bytes());
  };
  std::printf("dA %3lld x %5lld, us unsplit / free:", static_cast<long long>(r),
              static_cast<long long>(k));
  std::vector<Algorithm> unsplit;
  for (const int64_t t : {64, 128, 512, 1024, 2048, 4096, 8192}) {
    double best[2] = {1e30, 1e30};
    for (const bool any : {false, true}) {
      for (const Algorithm& algorithm : matmul.Choices(t, 8, any)) {
        if (!any && algorithm.id == 66 &&
            std::find(unsplit.begin(), unsplit.end(), algorithm) == unsplit.end())
          unsplit.push_back(algorithm);
        if (!any && algorithm.id != 66) continue;
        if (!matmul.Run(algorithm, t, dh.data(), x.data(), y.data(), Stream())) continue;
        best[any] = std::min(best[any], Microseconds([&](int) {
                               matmul.Run(algorithm, t, dh.data(), x.data(), y.data(), Stream());
                             }));
      }
    }
    std::printf("  %lld: %.1f/%.1f", static_cast<long long>(t), best[0],
                std::min(best[0], best[1]));
    std::fprintf(Records(),
                 "{\"ask\":\"token_sum\",\"k\":%lld,\"r\":%lld,\"t\":%lld,\"unsplit_us\":%.1f,"
                 "\"free_us\":%.1f}\n",
                 static_cast<long long>(k), static_cast<long long>(r), static_cast<long long>(t),
                 best[0], std::min(best[0], best[1]));
  }
  std::printf("\n    %zu unsplit algorithms of id 66, digests by tokens:", unsplit.size());
  std::map<int64_t, std::map<uint64_t, int>> digests;
  for (const Algorithm& algorithm : unsplit) {
    FillNormalBf16(x.data(), kMost * k, 1, 31);
    FillNormalBf16(dh.data(), kMost * r, 1, 32);
    for (const int64_t t : {8, 77, 1000, 4096, 8192}) ++digests[t][digest(algorithm, t)];
    // Rows from 1,000 on become 0 in both, garbage in neither: still the sum of 1,000.
    PROBE_CHECK(cudaMemsetAsync(x.as<char>() + 1000 * k * 2, 0, static_cast<size_t>(1048 * k * 2),
                                Stream()));
    PROBE_CHECK(cudaMemsetAsync(dh.as<char>() + 1000 * r * 2, 0, static_cast<size_t>(1048 * r * 2),
                                Stream()));
    for (const int64_t t : {1008, 1024, 2048}) ++digests[1000][digest(algorithm, t)];
  }
  for (const auto& [t, found] : digests) {
    std::printf("  %lld:", static_cast<long long>(t));
    for (const auto& [value, count] : found) {
      std::printf(" %08llx x%d", static_cast<unsigned long long>(value >> 32), count);
      std::fprintf(Records(),
                   "{\"ask\":\"token_sum_bytes\",\"k\":%lld,\"r\":%lld,\"t\":%lld,"
                   "\"digest\":\"%016llx\",\"algorithms\":%d}\n",
                   static_cast<long long>(k), static_cast<long long>(r), static_cast<long long>(t),
                   static_cast<unsigned long long>(value), count);
    }
  }
  std::printf("\n");
}

// ------------------------------------------------------------------------------- sustained

// All products of some layers of 8B at 4,096 tokens, forward and backward, for seconds on end: what
// the card does once it is warm. `further` columns stand for adapters.
class Layer {
 public:
  Layer(cudaDataType_t input, int64_t further) {
    constexpr int64_t kShapes[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
    for (const auto& [n, k] : kShapes) {
      if (input == CUDA_R_16BF) {
        Add(Forward(n, k + further));
        Add(Backward(n + further, k));
      } else {
        Add(InFp8(Forward(n, k), Scaling::kOuter, false));
        Add(InFp8(Forward(k, n), Scaling::kOuter, false));
      }
    }
  }

  double Flops() const {
    double sum = 0;
    for (const auto& matmul : matmuls_) sum += matmul->Flops(kT);
    return sum;
  }

  void Run(int layer) const {
    for (size_t i = 0; i < matmuls_.size(); ++i)
      matmuls_[i]->Run(algorithms_[i], kT, operands_[i]->x(), operands_[i]->w(layer), y_.data(),
                       Stream());
  }

 private:
  static constexpr int64_t kT = 4096;

  void Add(const MatmulShape& shape) {
    auto matmul = std::make_unique<Matmul>(shape);
    auto operands = std::make_unique<Operands>(shape, kT);
    matmul->SetScales(operands->x_scales(), operands->w_scales());
    const std::vector<Algorithm> choices = matmul->Choices(kT, 8, /*any=*/false);
    const Algorithm* best = nullptr;
    double least = 1e30;
    for (const Algorithm& algorithm : choices) {
      if (!matmul->Run(algorithm, kT, operands->x(), operands->w(0), y_.data(), Stream())) continue;
      const double time = Microseconds([&](int i) {
        matmul->Run(algorithm, kT, operands->x(), operands->w(i), y_.data(), Stream());
      });
      if (time >= least) continue;
      least = time;
      best = &algorithm;
    }
    if (best == nullptr) return;
    algorithms_.push_back(*best);
    operands_.push_back(std::move(operands));
    matmuls_.push_back(std::move(matmul));
  }

  std::vector<std::unique_ptr<Matmul>> matmuls_;
  std::vector<std::unique_ptr<Operands>> operands_;
  std::vector<Algorithm> algorithms_;
  Buffer y_{kT * 28672 * 2};
};

// ----------------------------------------------------------------------------------- fp8

const char* ScalingName(Scaling scaling) {
  switch (scaling) {
    case Scaling::kNone:
      return "none";
    case Scaling::kTensor:
      return "tensor";
    case Scaling::kOuter:
      return "row by row (OUTER_VEC)";
    case Scaling::kVec128:
      return "128 values (VEC128)";
    case Scaling::kBlocks:
      return "128 values, W 128x128";
  }
  return "";
}

// How far e4m3 with a scale a row is from the same product in bf16.
void Fp8Error(int64_t n, int64_t k) {
  constexpr int64_t kT = 1024;
  MatmulShape plain = {.n = n, .k = k, .output = CUDA_R_32F};
  const Operands operands(plain, kT);
  const Buffer exact(kT * n * 4);
  const Buffer rounded(kT * n * 2);
  const Buffer y(kT * n * 4);
  const Matmul matmul(plain);
  const std::vector<Algorithm> choices = matmul.Choices(kT, 1, false);
  if (choices.empty() ||
      !matmul.Run(choices[0], kT, operands.x(), operands.w(0), exact.data(), Stream()))
    return;
  const Buffer x(kT * k);
  const Buffer w(n * k);
  const Buffer x_scales(kT * 4);
  const Buffer w_scales(n * 4);
  QuantizeRowsE4m3(operands.x(), kT, k, x.data(), x_scales.as<float>());
  QuantizeRowsE4m3(operands.w(0), n, k, w.data(), w_scales.as<float>());
  for (const bool fast : {false, true}) {
    MatmulShape shape = InFp8(plain, Scaling::kOuter, fast);
    Matmul fp8(shape);
    fp8.SetScales(x_scales.as<float>(), w_scales.as<float>());
    const std::vector<Algorithm> ways = fp8.Choices(kT, 1, false);
    if (ways.empty() || !fp8.Run(ways[0], kT, x.data(), w.data(), y.data(), Stream())) {
      std::printf("%lld <- %lld f32 output, fast accumulation %d: refused\n",
                  static_cast<long long>(n), static_cast<long long>(k), fast);
      continue;
    }
    const double error = RelativeDifference(y.as<float>(), exact.as<float>(), kT * n);
    std::printf("%lld <- %lld, fast accumulation %d: %.4f of the bf16 product's norm away\n",
                static_cast<long long>(n), static_cast<long long>(k), fast, error);
    std::fprintf(Records(),
                 "{\"ask\":\"fp8_error\",\"n\":%lld,\"k\":%lld,\"fast\":%d,\"error\":%.6f}\n",
                 static_cast<long long>(n), static_cast<long long>(k), fast, error);
  }
}

}  // namespace

void AskPeak() {
  Peak("bf16, 8192 cubed", Forward(8192, 8192));
  Peak("f32 without TF32, 4096 cubed", InF32(Forward(4096, 4096)));
  Peak("e4m3 one scale, 8192 cubed", InFp8(Forward(8192, 8192), Scaling::kTensor, false));
  Peak("e4m3 one scale, fast accumulation", InFp8(Forward(8192, 8192), Scaling::kTensor, true));
}

void AskRows(bool thorough) {
  std::vector<Known> shapes = {
      {"8B q,k,v", Forward(6144, 4096), 8192},
      {"8B down", Forward(4096, 14336), 8192},
      {"8B down", Backward(4096, 14336), 4096},
      {"SmolLM2 gate,up", Forward(3072, 576), 4096},
  };
  if (thorough) {
    const Known more[] = {
        {"8B o", Forward(4096, 4096), 8192},
        {"8B o, residual", AddedTo(Forward(4096, 4096)), 8192},
        {"8B down, residual", AddedTo(Forward(4096, 14336)), 8192},
        {"8B gate,up", Forward(28672, 4096), 4096},
        {"8B gate", Forward(14336, 4096), 8192},
        {"8B k", Forward(1024, 4096), 8192},
        {"8B logits", AddedTo(Forward(128256, 4096)), 1024},
        {"8B q,k,v", Backward(6144, 4096), 8192},
        {"8B o", Backward(4096, 4096), 8192},
        {"8B gate,up", Backward(28672, 4096), 8192},
        {"8B logits", Backward(128256, 4096), 1024},
        {"70B o", Forward(8192, 8192), 4096},
        {"70B down", Forward(8192, 28672), 4096},
        {"70B gate", Backward(28672, 8192), 4096},
        {"SmolLM2 q,k,v", Forward(960, 576), 4096},
        {"SmolLM2 down", Forward(576, 1536), 4096},
        {"SmolLM2 q,k,v", Backward(960, 576), 4096},
        {"SmolLM2 gate,up", Backward(3072, 576), 4096},
        {"SmolLM2 down", Backward(576, 1536), 4096},
        {"SmolLM2 logits", AddedTo(Forward(49152, 576)), 2048},
        {"8B lora A, rank 16", Forward(16, 4096), 8192},
        {"8B lora A, rank 64", Forward(64, 4096), 8192},
        {"8B o in f32", InF32(Forward(4096, 4096)), 2048},
        {"8B down in f32", InF32(Backward(4096, 14336)), 1024},
        {"SmolLM2 gate,up in f32", InF32(Forward(3072, 576)), 4096},
        {"8B q,k,v in e4m3", InFp8(Forward(6144, 4096), Scaling::kOuter, false), 8192},
        {"8B gate,up in e4m3", InFp8(Forward(28672, 4096), Scaling::kOuter, false), 4096},
        {"8B down in e4m3", InFp8(Forward(4096, 14336), Scaling::kOuter, false), 8192},
        {"8B down in e4m3, fast", InFp8(Forward(4096, 14336), Scaling::kOuter, true), 8192},
        {"8B gate,up dX in e4m3", InFp8(Forward(4096, 28672), Scaling::kOuter, false), 4096},
    };
    shapes.insert(shapes.end(), std::begin(more), std::end(more));
  }
  for (const Known& known : shapes) Rows(known);
}

void AskFurtherColumns() {
  FurtherColumns(6144, 4096);
  FurtherColumns(28672, 4096);
  FurtherColumns(4096, 14336);
}

void AskTokenSums() {
  TokenSum(4096, 16);
  TokenSum(4096, 48);
  TokenSum(14336, 16);
  TokenSum(576, 16);
}

void AskSustained() {
  constexpr double kSeconds = 4;
  const Layer bf16(CUDA_R_16BF, 0);
  const Layer bf16_further(CUDA_R_16BF, 64);
  const Layer e4m3(CUDA_R_8F_E4M3, 0);
  const std::tuple<const char*, const Layer*> layers[] = {
      {"bf16", &bf16}, {"bf16, 64 further columns", &bf16_further}, {"e4m3", &e4m3}};
  for (int round = 0; round < 2; ++round) {
    for (const auto& [name, layer] : layers) {
      double seconds = 0;
      double last = 0;  // Microseconds of one pass.
      while (seconds < kSeconds) {
        last = Microseconds([&, &pass = *layer](int i) {
                 for (int j = 0; j < 20; ++j) pass.Run(i + j);
               }) /
               20;
        seconds += last * 20 * 9 / 1e6;
      }
      std::printf("%-26s %6.0f us for forward and backward of a layer, %.0f TFLOP/s\n", name, last,
                  layer->Flops() / last / 1e6);
      std::fprintf(Records(),
                   "{\"ask\":\"sustained\",\"what\":\"%s\",\"layer_us\":%.0f,"
                   "\"tflops\":%.1f}\n",
                   name, last, layer->Flops() / last / 1e6);
      std::fflush(nullptr);
    }
  }
}

void AskFp8() {
  for (const Scaling scaling :
       {Scaling::kTensor, Scaling::kOuter, Scaling::kVec128, Scaling::kBlocks}) {
    for (const bool fast : {false, true}) {
      const std::string name =
          std::string("e4m3 4096 cubed, scale ") + ScalingName(scaling) + (fast ? ", fast" : "");
      Peak(name.c_str(), InFp8(Forward(4096, 4096), scaling, fast));
    }
  }
  Fp8Error(4096, 4096);
  Fp8Error(4096, 14336);
}

void AskGraph() {
  // SmolLM2-135M forward at 512 tokens: 30 layers of 4 products, each followed by 2 small kernels.
  constexpr int64_t kT = 512;
  constexpr int kLayers = 30;
  const MatmulShape shapes[] = {Forward(960, 576), Forward(576, 576), Forward(3072, 576),
                                Forward(576, 1536)};
  std::vector<std::unique_ptr<Matmul>> matmuls;
  std::vector<std::unique_ptr<Operands>> operands;
  std::vector<Algorithm> algorithms;
  const Buffer y(kT * 3072 * 4);
  for (const MatmulShape& shape : shapes) {
    matmuls.push_back(std::make_unique<Matmul>(shape));
    operands.push_back(std::make_unique<Operands>(shape, kT));
    const std::vector<Algorithm> choices = matmuls.back()->Choices(kT, 1, false);
    if (choices.empty()) {
      std::printf("not answered: no algorithm\n");
      return;
    }
    algorithms.push_back(choices[0]);
  }
  const auto enqueue = [&](bool products, bool kernels) {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (size_t i = 0; i < matmuls.size(); ++i) {
        if (products)
          matmuls[i]->Run(algorithms[i], kT, operands[i]->x(), operands[i]->w(layer), y.data(),
                          Stream());
        for (int j = 0; kernels && j < 2; ++j) LaunchNothing(Stream());
      }
    }
  };
  for (const auto& [name, products, kernels] :
       {std::tuple{"120 products", true, false}, std::tuple{"240 empty kernels", false, true},
        std::tuple{"both", true, true}}) {
    const double one_by_one = Microseconds([&](int) { enqueue(products, kernels); });
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    PROBE_CHECK(cudaStreamBeginCapture(Stream(), cudaStreamCaptureModeThreadLocal));
    enqueue(products, kernels);
    PROBE_CHECK(cudaStreamEndCapture(Stream(), &graph));
    PROBE_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    const double as_graph =
        Microseconds([&](int) { PROBE_CHECK(cudaGraphLaunch(executable, Stream())); });
    PROBE_CHECK(cudaGraphExecDestroy(executable));
    PROBE_CHECK(cudaGraphDestroy(graph));
    std::printf("%-18s one by one %.0f us, as a graph %.0f us\n", name, one_by_one, as_graph);
    std::fprintf(Records(),
                 "{\"ask\":\"graph\",\"what\":\"%s\",\"one_by_one_us\":%.1f,\"graph_us\":%.1f}\n",
                 name, one_by_one, as_graph);
  }
}

}  // namespace deltaworks::gpu_probe
