// Sixteen f32 (or 32-bit integer) lanes on any x86-64: one AVX-512 register, two of AVX2 or four of
// SSE2. Kernels are written once against these types and compiled once for each instruction set.
//
// Everything is inside a namespace named after the instruction set (DW_ISA): the linker keeps one
// copy of an inline function, and must not give an old machine the copy with new instructions. For
// the same reason kernel sources include nothing that brings inline functions of its own.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_SIMD_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_SIMD_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#ifndef DW_ISA
#error "compile with -DDW_ISA=name"
#endif

#define DW_INLINE inline __attribute__((always_inline))

namespace deltaworks::trainer::DW_ISA {

inline constexpr int kLanes = 16;
#if defined(__AVX512F__)
inline constexpr int kNative = 16;
#elif defined(__AVX2__)
inline constexpr int kNative = 8;
#else
inline constexpr int kNative = 4;
#endif
inline constexpr int kParts = kLanes / kNative;

typedef float NativeF __attribute__((vector_size(kNative * 4)));
typedef int32_t NativeI __attribute__((vector_size(kNative * 4)));
typedef uint32_t NativeU __attribute__((vector_size(kNative * 4)));

// The bits of a BFloat16.
struct Bf16 {
  uint16_t bits;
};

struct F32 {
  NativeF part[kParts];
};
struct U32 {
  NativeU part[kParts];
};
// Lanes are all ones or all zeros.
struct Mask {
  NativeI part[kParts];
};

#define DW_EACH_PART(...) \
  _Pragma("GCC unroll 4") for (int i = 0; i < kParts; ++i) { __VA_ARGS__; }

DW_INLINE F32 Broadcast(float x) {
  F32 r;
#if defined(__AVX512F__)
  r.part[0] = _mm512_set1_ps(x);
#elif defined(__AVX2__)
  DW_EACH_PART(r.part[i] = _mm256_set1_ps(x))
#else
  DW_EACH_PART(r.part[i] = _mm_set1_ps(x))
#endif
  return r;
}
DW_INLINE U32 BroadcastU(uint32_t x) {
  U32 r;
  DW_EACH_PART(r.part[i] = NativeU{} + x)
  return r;
}
DW_INLINE F32 Zero() { return F32{}; }

DW_INLINE F32 operator+(F32 a, F32 b) {
  DW_EACH_PART(a.part[i] += b.part[i])
  return a;
}
DW_INLINE F32 operator-(F32 a, F32 b) {
  DW_EACH_PART(a.part[i] -= b.part[i])
  return a;
}
DW_INLINE F32 operator*(F32 a, F32 b) {
  DW_EACH_PART(a.part[i] *= b.part[i])
  return a;
}
DW_INLINE F32 operator/(F32 a, F32 b) {
  DW_EACH_PART(a.part[i] /= b.part[i])
  return a;
}
DW_INLINE Mask operator<(F32 a, F32 b) {
  Mask r;
  DW_EACH_PART(r.part[i] = a.part[i] < b.part[i])
  return r;
}
DW_INLINE F32 Select(Mask mask, F32 yes, F32 no) {
  DW_EACH_PART(no.part[i] = mask.part[i] ? yes.part[i] : no.part[i])
  return no;
}
// b where a is not larger, so a NaN in b stays.
DW_INLINE F32 Max(F32 a, F32 b) { return Select(b < a, a, b); }

// a * b + c, rounded once where the instruction set can.
DW_INLINE F32 Fma(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__)
  c.part[0] = _mm512_fmadd_ps(a.part[0], b.part[0], c.part[0]);
#elif defined(__FMA__)
  DW_EACH_PART(c.part[i] = _mm256_fmadd_ps(a.part[i], b.part[i], c.part[i]))
#else
  DW_EACH_PART(c.part[i] = a.part[i] * b.part[i] + c.part[i])
#endif
  return c;
}

DW_INLINE F32 Sqrt(F32 a) {
#if defined(__AVX512F__)
  a.part[0] = _mm512_sqrt_ps(a.part[0]);
#elif defined(__AVX2__)
  DW_EACH_PART(a.part[i] = _mm256_sqrt_ps(a.part[i]))
#else
  DW_EACH_PART(a.part[i] = _mm_sqrt_ps(a.part[i]))
#endif
  return a;
}

DW_INLINE U32 Bits(F32 a) {
  U32 r;
  DW_EACH_PART(r.part[i] = reinterpret_cast<NativeU>(a.part[i]))
  return r;
}
DW_INLINE F32 FromBits(U32 a) {
  F32 r;
  DW_EACH_PART(r.part[i] = reinterpret_cast<NativeF>(a.part[i]))
  return r;
}

// ---- Memory ----

// Part by part: g++ copies a struct of several registers by way of the stack.
DW_INLINE F32 Load(const float* p) {
  F32 r;
  DW_EACH_PART(std::memcpy(&r.part[i], p + i * kNative, sizeof(NativeF)))
  return r;
}
DW_INLINE void Store(float* p,
                     F32 a){DW_EACH_PART(std::memcpy(p + i * kNative, &a.part[i], sizeof(NativeF)))}

DW_INLINE F32 Load(const Bf16* p) {
  F32 r;
#if defined(__AVX512F__)
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  r.part[0] = reinterpret_cast<NativeF>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
#elif defined(__AVX2__)
  DW_EACH_PART(const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * 8));
               r.part[i] =
                   reinterpret_cast<NativeF>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)))
#else
  const __m128i zero = _mm_setzero_si128();
  for (int i = 0; i < 2; ++i) {
    const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * 8));
    r.part[2 * i] = reinterpret_cast<NativeF>(_mm_unpacklo_epi16(zero, eight));
    r.part[2 * i + 1] = reinterpret_cast<NativeF>(_mm_unpackhi_epi16(zero, eight));
  }
#endif
  return r;
}

// To nearest even, in integers: exact for denormal numbers too. NaN stays NaN.
DW_INLINE U32 RoundToUpperHalf(F32 a) {
  const U32 bits = Bits(a);
  U32 r;
  DW_EACH_PART(const NativeU w = bits.part[i];
               const NativeU rounded = (w + 0x7fffu + ((w >> 16) & 1u)) >> 16;
               const NativeU quiet = (w >> 16) | 0x40u;
               r.part[i] = (w & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)
  return r;
}

DW_INLINE void Store(Bf16* p, F32 a) {
  const U32 r = RoundToUpperHalf(a);
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(r.part[0])));
#elif defined(__AVX2__)
  const __m256i packed = _mm256_packus_epi32(reinterpret_cast<__m256i>(r.part[0]),
                                             reinterpret_cast<__m256i>(r.part[1]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
#else
  for (int i = 0; i < 2; ++i) {
    // packs saturates signed numbers: sign-extend the lower halves first.
    const __m128i low =
        _mm_srai_epi32(_mm_slli_epi32(reinterpret_cast<__m128i>(r.part[2 * i]), 16), 16);
    const __m128i high =
        _mm_srai_epi32(_mm_slli_epi32(reinterpret_cast<__m128i>(r.part[2 * i + 1]), 16), 16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + i * 8), _mm_packs_epi32(low, high));
  }
#endif
}

// The first n < 16 elements; the other lanes are zero, and memory behind them is not touched.
template <typename T>
DW_INLINE F32 LoadPartial(const T* p, int64_t n) {
  T padded[kLanes] = {};
  std::memcpy(padded, p, n * sizeof(T));
  return Load(padded);
}
template <typename T>
DW_INLINE void StorePartial(T* p, F32 a, int64_t n) {
  T padded[kLanes];
  Store(padded, a);
  std::memcpy(p, padded, n * sizeof(T));
}

// ---- Across lanes ----

// Lanes i, i + 8, i + 4 and i + 12 added to lane i of four: half of the way to the sum of all.
DW_INLINE __m128 AddQuarters(F32 a) {
#if defined(__AVX512F__)
  const __m128 low =
      _mm_add_ps(_mm512_castps512_ps128(a.part[0]), _mm512_extractf32x4_ps(a.part[0], 2));
  const __m128 high =
      _mm_add_ps(_mm512_extractf32x4_ps(a.part[0], 1), _mm512_extractf32x4_ps(a.part[0], 3));
  return _mm_add_ps(low, high);
#elif defined(__AVX2__)
  const __m256 eight = _mm256_add_ps(a.part[0], a.part[1]);
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#else
  return _mm_add_ps(_mm_add_ps(a.part[0], a.part[2]), _mm_add_ps(a.part[1], a.part[3]));
#endif
}
// The sixteen lanes added in a fixed tree.
DW_INLINE float ReduceSum(F32 a) {
  const __m128 four = AddQuarters(a);
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
DW_INLINE float ReduceMax(F32 a) {
#if defined(__AVX512F__)
  const __m256 low = _mm512_castps512_ps256(a.part[0]);
  const __m256 eight = _mm256_max_ps(low, _mm512_extractf32x8_ps(a.part[0], 1));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#elif defined(__AVX2__)
  const __m256 eight = _mm256_max_ps(a.part[0], a.part[1]);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#else
  __m128 four = _mm_max_ps(_mm_max_ps(a.part[0], a.part[1]), _mm_max_ps(a.part[2], a.part[3]));
#endif
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

// {0, 1, ... 15} as floats: exact positions within a block.
DW_INLINE F32 Iota() {
  static constexpr float kIota[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return Load(kIota);
}

// ---- Loops over vectors of any length ----

// body(offset, n, full): n is 16 but for the last call, where `full` is false. T-generic loads and
// stores of such a chunk:
template <typename T>
DW_INLINE F32 LoadChunk(const T* p, int64_t n) {
  return n == kLanes ? Load(p) : LoadPartial(p, n);
}
template <typename T>
DW_INLINE void StoreChunk(T* p, F32 a, int64_t n) {
  if (n == kLanes) {
    Store(p, a);
  } else {
    StorePartial(p, a, n);
  }
}
template <typename Body>
DW_INLINE void ForChunks(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, static_cast<int64_t>(kLanes));
  if (i < n) body(i, n - i);
}

// ---- Functions ----

// p * 2^n for an integer n in [-126, 128], which is in the low bits of `shifted` = n + 1.5 * 2^23.
// Rounds, if at all, only to infinity.
DW_INLINE F32 TimesPowerOfTwo(F32 p, F32 n, F32 shifted) {
#if defined(__AVX512F__)
  static_cast<void>(shifted);
  p.part[0] = _mm512_scalef_ps(p.part[0], n.part[0]);
  return p;
#else
  static_cast<void>(n);
  // 2^128 is no number: two factors.
  const U32 bits = Bits(shifted);
  U32 first, second;
  DW_EACH_PART(const NativeI exponent = reinterpret_cast<NativeI>(bits.part[i]) - 0x4b400000;
               const NativeI half = exponent >> 1;
               first.part[i] = reinterpret_cast<NativeU>((half + 127) << 23);
               second.part[i] = reinterpret_cast<NativeU>((exponent - half + 127) << 23))
  return p * FromBits(first) * FromBits(second);
#endif
}

// e^x with a relative error below 2^-22 (tested against std::exp over its range): Cody-Waite
// reduction to |r| <= ln(2)/2, polynomial of degree 7 (the coefficients of Cephes' expf), scaled by
// two powers of two so that the largest results do not overflow on the way. Results below the
// smallest normal number are 0; NaN stays NaN.
DW_INLINE F32 Exp(F32 x) {
  const F32 low = Broadcast(-87.33654f);
  const F32 high = Broadcast(89.0f);
  const F32 clamped = Select(high < x, high, Select(x < low, low, x));
  const F32 magic = Broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer.
  const F32 shifted = Fma(clamped, Broadcast(1.44269504f), magic);
  const F32 n = shifted - magic;
  F32 r = Fma(n, Broadcast(-0.693359375f), clamped);
  r = Fma(n, Broadcast(2.12194440e-4f), r);
  F32 p = Broadcast(1.9875691500e-4f);
  p = Fma(p, r, Broadcast(1.3981999507e-3f));
  p = Fma(p, r, Broadcast(8.3334519073e-3f));
  p = Fma(p, r, Broadcast(4.1665795894e-2f));
  p = Fma(p, r, Broadcast(1.6666665459e-1f));
  p = Fma(p, r, Broadcast(5.0000001201e-1f));
  p = Fma(p, r * r, r) + Broadcast(1.0f);
  return Select(x < low, Zero(), TimesPowerOfTwo(p, n, shifted));
}

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_SIMD_H_
