// Kernels on vectors of elements and on single rows. Compiled once for each instruction set.

#include "trainer/backend/cpu/kernels/elementwise.h"

#include "trainer/backend/cpu/kernels/dropout.h"

namespace deltaworks::trainer::DW_ISA {
namespace {

template <typename T>
void Widen(const void* x, float* y, int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    StoreChunk(y + i, LoadChunk(static_cast<const T*>(x) + i, lanes), lanes);
  });
}

template <typename T>
void Round(const float* x, void* y, int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    StoreChunk(static_cast<T*>(y) + i, LoadChunk(x + i, lanes), lanes);
  });
}

template <typename T>
void AddWide(const float* x, const void* y, float* out, int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 sum = LoadChunk(x + i, lanes) + LoadChunk(static_cast<const T*>(y) + i, lanes);
    StoreChunk(out + i, sum, lanes);
  });
}

void Accumulate(const float* x, float* y, int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    StoreChunk(y + i, LoadChunk(x + i, lanes) + LoadChunk(y + i, lanes), lanes);
  });
}

template <typename T>
void ScaleRound(const float* x, float scale, void* out, int64_t n) {
  const F32 factor = Broadcast(scale);
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    StoreChunk(static_cast<T*>(out) + i, factor * LoadChunk(x + i, lanes), lanes);
  });
}

template <typename T>
void AddRound(const float* c, const float* add, void* out, int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 sum = LoadChunk(add + i, lanes) + LoadChunk(c + i, lanes);
    StoreChunk(static_cast<T*>(out) + i, sum, lanes);
  });
}

// A zero factor selects: what dropout drops may be anything, NaN included.
DW_INLINE F32 Dropped(F32 factor, F32 x) { return Select(Zero() < factor, factor * x, Zero()); }

template <typename T>
void AddMaskedRound(const float* c, const float* add, const DropoutMask& mask, uint32_t token,
                    int64_t feature, void* out, int64_t n) {
  ForMaskedChunks(mask, token, feature, n, [&](int64_t i, int64_t lanes, F32 factor) {
    const F32 sum = LoadChunk(c + i, lanes) + Dropped(factor, LoadChunk(add + i, lanes));
    StoreChunk(static_cast<T*>(out) + i, sum, lanes);
  });
}

template <typename T>
void Drop(const void* x, const DropoutMask& mask, uint32_t token, int64_t feature, void* out,
          int64_t n) {
  ForMaskedChunks(mask, token, feature, n, [&](int64_t i, int64_t lanes, F32 factor) {
    const F32 dropped = Dropped(factor, LoadChunk(static_cast<const T*>(x) + i, lanes));
    StoreChunk(static_cast<T*>(out) + i, dropped, lanes);
  });
}

DW_INLINE F32 Sigmoid(F32 x) { return Broadcast(1.0f) / (Broadcast(1.0f) + Exp(Zero() - x)); }

template <typename T>
void SwigluForward(const void* gate, const void* up, void* out, int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 g = LoadChunk(static_cast<const T*>(gate) + i, lanes);
    const F32 u = LoadChunk(static_cast<const T*>(up) + i, lanes);
    StoreChunk(static_cast<T*>(out) + i, g * Sigmoid(g) * u, lanes);
  });
}

template <typename T>
void SwigluBackward(const void* gate, const void* up, const void* dout, void* dgate, void* dup,
                    int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 g = LoadChunk(static_cast<const T*>(gate) + i, lanes);
    const F32 u = LoadChunk(static_cast<const T*>(up) + i, lanes);
    const F32 d = LoadChunk(static_cast<const T*>(dout) + i, lanes);
    const F32 s = Sigmoid(g);
    const F32 silu = g * s;
    // silu' = s + silu * (1 - s).
    const F32 slope = Fma(silu, Broadcast(1.0f) - s, s);
    StoreChunk(static_cast<T*>(dgate) + i, d * u * slope, lanes);
    StoreChunk(static_cast<T*>(dup) + i, d * silu, lanes);
  });
}

double SumOfSquares(const float* x, int64_t n) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; ++j) {
      sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
    }
  }
  for (int j = 0; i + j < n; ++j) {
    sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

void AdamW(const AdamWScalars& s, const float* gradient, float* parameter, float* m, float* v,
           int64_t n) {
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 g = LoadChunk(gradient + i, lanes) * Broadcast(s.gradient_scale);
    const F32 decayed = LoadChunk(parameter + i, lanes) * Broadcast(s.decay);
    const F32 old_m = LoadChunk(m + i, lanes);
    const F32 new_m = old_m + Broadcast(s.one_minus_beta1) * (g - old_m);
    const F32 new_v =
        LoadChunk(v + i, lanes) * Broadcast(s.beta2) + Broadcast(s.one_minus_beta2) * g * g;
    const F32 denominator = Sqrt(new_v) / Broadcast(s.root_correction2) + Broadcast(s.epsilon);
    StoreChunk(m + i, new_m, lanes);
    StoreChunk(v + i, new_v, lanes);
    StoreChunk(parameter + i, decayed - Broadcast(s.step_size) * new_m / denominator, lanes);
  });
}

template <typename T>
float RmsNormForward(const float* x, const float* weight, double epsilon, void* y, int64_t n) {
  F32 squares = Zero();
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 a = LoadChunk(x + i, lanes);
    squares = Fma(a, a, squares);
  });
  const double mean = static_cast<double>(ReduceSum(squares)) / static_cast<double>(n);
  const float rstd = static_cast<float>(1.0 / __builtin_sqrt(mean + epsilon));
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 scaled = LoadChunk(x + i, lanes) * Broadcast(rstd);
    StoreChunk(static_cast<T*>(y) + i, scaled * LoadChunk(weight + i, lanes), lanes);
  });
  return rstd;
}

template <typename T>
void RmsNormBackward(const float* x, const float* weight, float rstd, const void* dy, float* dx,
                     int64_t n) {
  F32 products = Zero();
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 scaled =
        LoadChunk(static_cast<const T*>(dy) + i, lanes) * LoadChunk(weight + i, lanes);
    products = Fma(scaled, LoadChunk(x + i, lanes), products);
  });
  // dx_j = rstd * (w_j dy_j - x_j * rstd^2 / n * sum_i w_i dy_i x_i).
  const F32 factor = Broadcast(-(ReduceSum(products) / static_cast<float>(n)) * rstd * rstd);
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 scaled =
        LoadChunk(static_cast<const T*>(dy) + i, lanes) * LoadChunk(weight + i, lanes);
    const F32 inner = Fma(factor, LoadChunk(x + i, lanes), scaled);
    StoreChunk(dx + i, Fma(Broadcast(rstd), inner, LoadChunk(dx + i, lanes)), lanes);
  });
}

template <typename T>
void Rope(void* x, int64_t heads, int64_t head_dim, const float* cosines, const float* sines,
          float sine_sign) {
  const int64_t half = head_dim / 2;
  const F32 sign = Broadcast(sine_sign);
  for (int64_t head = 0; head < heads; ++head) {
    T* first = static_cast<T*>(x) + head * head_dim;
    T* second = first + half;
    ForChunks(half, [&](int64_t i, int64_t lanes) {
      const F32 cosine = LoadChunk(cosines + i, lanes);
      const F32 sine = LoadChunk(sines + i, lanes) * sign;
      const F32 a = LoadChunk(first + i, lanes);
      const F32 b = LoadChunk(second + i, lanes);
      StoreChunk(first + i, a * cosine - b * sine, lanes);
      StoreChunk(second + i, b * cosine + a * sine, lanes);
    });
  }
}

template <typename T>
void PanelExponentials(const float* x, int64_t n, void* out, float* max, float* sum) {
  const F32 lowest = Broadcast(-__builtin_inff());
  F32 largest = lowest;
  const F32 lane = Iota();
  // Lanes behind the end must not count: -inf is neutral for the maximum and has exp 0.
  const auto load = [&](int64_t i, int64_t lanes) {
    if (lanes == kLanes) return Load(x + i);
    return Select(lane < Broadcast(static_cast<float>(lanes)), LoadPartial(x + i, lanes), lowest);
  };
  ForChunks(n, [&](int64_t i, int64_t lanes) { largest = Max(largest, load(i, lanes)); });
  *max = ReduceMax(largest);
  F32 total = Zero();
  const F32 shift = Broadcast(*max);
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    const F32 e = Exp(load(i, lanes) - shift);
    StoreChunk(static_cast<T*>(out) + i, e, lanes);
    total = total + e;
  });
  *sum = ReduceSum(total);
}

template <typename T>
void SoftmaxGradient(const void* x, float factor, float weight, int64_t label, void* out,
                     int64_t n) {
  const F32 factors = Broadcast(factor);
  const F32 lane = Iota();
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    F32 gradient = factors * LoadChunk(static_cast<const T*>(x) + i, lanes);
    if (label >= i && label < i + kLanes) {
      const F32 distance = lane - Broadcast(static_cast<float>(label - i));
      const Mask here = distance * distance < Broadcast(0.5f);
      gradient = gradient - Select(here, Broadcast(weight), Zero());
    }
    StoreChunk(static_cast<T*>(out) + i, gradient, lanes);
  });
}

float InnerProduct(const float* a, const float* b, int64_t n) {
  F32 sum = Zero();
  ForChunks(n, [&](int64_t i, int64_t lanes) {
    sum = Fma(LoadChunk(a + i, lanes), LoadChunk(b + i, lanes), sum);
  });
  return ReduceSum(sum);
}

void ExpVector(const float* x, float* y, int64_t n) {
  ForChunks(
      n, [&](int64_t i, int64_t lanes) { StoreChunk(y + i, Exp(LoadChunk(x + i, lanes)), lanes); });
}

template <typename T>
void Add(KernelSet& set) {
  set.widen = Widen<T>;
  set.round = Round<T>;
  set.add_wide = AddWide<T>;
  set.accumulate = Accumulate;
  set.scale_round = ScaleRound<T>;
  set.add_round = AddRound<T>;
  set.add_masked_round = AddMaskedRound<T>;
  set.drop = Drop<T>;
  set.swiglu_forward = SwigluForward<T>;
  set.swiglu_backward = SwigluBackward<T>;
  set.sum_of_squares = SumOfSquares;
  set.adamw = AdamW;
  set.rms_norm_forward = RmsNormForward<T>;
  set.rms_norm_backward = RmsNormBackward<T>;
  set.rope = Rope<T>;
  set.panel_exponentials = PanelExponentials<T>;
  set.softmax_gradient = SoftmaxGradient<T>;
  set.inner_product = InnerProduct;
  set.exp = ExpVector;
}

}  // namespace

void AddElementwise(bool bf16, KernelSet& set) {
  if (bf16) {
    Add<Bf16>(set);
  } else {
    Add<float>(set);
  }
}

}  // namespace deltaworks::trainer::DW_ISA
