// The two layouts of panels (kernels.h) and how a step of an inner loop multiplies with them: f32
// [depth][64], for f32 and, widened, for bf16 on machines that cannot multiply it; and pairs of
// bf16 [depth / 2][64][2], which vdpbf16ps multiplies and adds two by two.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_LAYOUT_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_LAYOUT_H_

#include "trainer/backend/cpu/kernels/simd.h"

namespace deltaworks::trainer::DW_ISA {

// Rows times vectors of the sums that registers hold.
#if defined(__AVX512F__)
inline constexpr int kVectorsMax = 4;
constexpr int RowsFor(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }
#elif defined(__AVX2__)
inline constexpr int kVectorsMax = 1;
constexpr int RowsFor(int) { return 6; }
#else
inline constexpr int kVectorsMax = 1;
constexpr int RowsFor(int) { return 2; }
#endif

// One f32 at a step.
struct Wide {
  using Element = float;
  static constexpr int kStep = 1;
  static DW_INLINE F32 Left(const float* a) { return Broadcast(*a); }
  static DW_INLINE F32 Right(const float* b) { return Load(b); }
  static DW_INLINE F32 MultiplyAdd(F32 a, F32 b, F32 sum) { return Fma(a, b, sum); }
};

#if defined(__AVX512BF16__)
// Two bf16 at a step. The instruction takes denormal numbers for zero.
struct Pairs {
  using Element = Bf16;
  static constexpr int kStep = 2;
  static DW_INLINE __m512i Left(const Bf16* a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static DW_INLINE __m512i Right(const Bf16* b) { return _mm512_loadu_si512(b); }
  static DW_INLINE F32 MultiplyAdd(__m512i a, __m512i b, F32 sum) {
    sum.part[0] =
        _mm512_dpbf16_ps(sum.part[0], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    return sum;
  }
};
#endif

// Of panels of compute type T.
template <typename T>
struct LayoutOf {
  using Type = Wide;
};
#if defined(__AVX512BF16__)
template <>
struct LayoutOf<Bf16> {
  using Type = Pairs;
};
#endif

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_LAYOUT_H_
